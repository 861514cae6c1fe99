//! The rows of a batch, sorted into the statements that write them.
//!
//! Pure: what to write in which order, and what the database's answer means for the items.

use std::collections::BTreeMap;

use crate::store::{
    Row, StoreError, StoreErrorKind, Value,
    statement::{ColumnType, Merge, Rank, Statement},
};

/// Which write of which item a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) item: usize,
    pub(super) write: usize,
}

/// One row to write.
#[derive(Clone, Debug)]
pub(super) struct RowWrite<'b> {
    /// The write it comes from; for merged rows the first.
    pub(super) origin: Origin,
    values: &'b [Value],
    /// What stands in place of one of `values`, after a merge.
    replaced: Option<(usize, &'b Value)>,
}

/// All rows of one statement, in the order in which they are written.
#[derive(Debug)]
pub(super) struct Group<'b> {
    pub(super) statement: &'static Statement,
    pub(super) rows: Vec<RowWrite<'b>>,
}

/// The rows of a batch by statement; statements in the order of their ranks.
#[derive(Debug, Default)]
pub(super) struct Groups<'b>(BTreeMap<(Rank, &'static str), Group<'b>>);

impl<'b> Groups<'b> {
    /// Adds a row.
    ///
    /// # Errors
    /// When it has not as many values as its statement has columns.
    pub(super) fn add(
        &mut self,
        origin: Origin,
        statement: &'static Statement,
        values: &'b [Value],
    ) -> Result<(), StoreError> {
        let (given, wanted) = (values.len(), statement.columns().len());
        if given != wanted {
            let name = statement.name();
            let message = format!("a row of {name:?} has {given} values instead of {wanted}");
            return Err(StoreError::new(StoreErrorKind::Bug, message));
        }
        let new = || Group {
            statement,
            rows: Vec::new(),
        };
        let place = (statement.rank(), statement.name());
        self.0.entry(place).or_insert_with(new).rows.push(RowWrite {
            origin,
            values,
            replaced: None,
        });
        Ok(())
    }

    /// Returns the statements in order, their rows merged and sorted.
    pub(super) fn in_order(self) -> impl Iterator<Item = Group<'b>> {
        self.0.into_values().map(Group::arranged)
    }
}

impl Group<'_> {
    /// Sorts by key and merges; rows that the database numbers stay in item order.
    fn arranged(mut self) -> Self {
        let key = self.statement.key_columns();
        if self.statement.is_assigned() || key.is_empty() {
            return self;
        }
        // Stable: rows of one key stay in item order.
        self.rows.sort_by(|a, b| a.key(key).cmp(b.key(key)));
        if let Merge::Chain { version, base } = self.statement.merging() {
            self.rows
                .dedup_by(|next, row| merge(row, next, key, version, base));
        }
        self
    }
}

impl<'b> RowWrite<'b> {
    /// Returns the value to bind for a column.
    pub(super) fn value(&self, column: usize) -> &'b Value {
        match self.replaced {
            Some((at, other)) if at == column => other,
            _ => &self.values[column],
        }
    }

    /// Returns the values of the key.
    pub(super) fn key(&self, columns: &'static [usize]) -> impl Iterator<Item = &'b Value> {
        let values = self.values;
        columns.iter().map(move |column| &values[*column])
    }
}

/// Makes `row` what `row` and then `next` would leave, if `next` builds on it; says whether it did.
fn merge<'b>(
    row: &mut RowWrite<'b>,
    next: &RowWrite<'b>,
    key: &'static [usize],
    version: usize,
    base: usize,
) -> bool {
    // Otherwise both are written and the second one conflicts, as it should.
    let follows = row.key(key).eq(next.key(key)) && row.value(version) == next.value(base);
    if follows {
        row.replaced = Some((base, row.value(base)));
        row.values = next.values;
    }
    follows
}

/// What the database said it wrote: how often each key, and with which numbers.
#[derive(Debug, Default)]
pub(super) struct Written(BTreeMap<Vec<Value>, Vec<i64>>);

impl Written {
    /// Reads one row of a `RETURNING`.
    pub(super) fn add(&mut self, statement: &Statement, row: &Row) -> Result<(), StoreError> {
        let columns = statement.key_columns();
        let mut key = Vec::with_capacity(columns.len());
        for (place, column) in columns.iter().enumerate() {
            key.push(match statement.columns()[*column] {
                ColumnType::Int | ColumnType::Time => row.int(place)?.into(),
                ColumnType::Text => row.text(place)?.into(),
                ColumnType::Blob => row.blob(place)?.into(),
            });
        }
        let number = match statement.is_assigned() {
            true => row.int(columns.len())?,
            false => 0,
        };
        self.0.entry(key).or_default().push(number);
        Ok(())
    }

    /// Takes one write of this row out; `None` if the database did not write it (again).
    pub(super) fn take(&mut self, statement: &Statement, row: &RowWrite<'_>) -> Option<i64> {
        let key: Vec<_> = row.key(statement.key_columns()).cloned().collect();
        let numbers = self.0.get_mut(&key)?;
        if numbers.is_empty() {
            None
        } else {
            Some(numbers.remove(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{entities, mailbox};

    fn state(id: &str, base: i64, bytes: &str) -> Vec<Value> {
        let (kind, version) = ("cart".into(), Value::Int(base + 1));
        let (base, state) = (Value::Int(base), bytes.as_bytes().into());
        vec![
            kind,
            id.into(),
            0_u32.into(),
            version,
            base,
            1_u32.into(),
            state,
            Value::NOW,
        ]
    }

    fn arranged(rows: &[Vec<Value>]) -> Vec<(usize, Vec<Value>)> {
        let mut groups = Groups::default();
        for (item, values) in rows.iter().enumerate() {
            let origin = Origin { item, write: 0 };
            groups.add(origin, &entities::STORE, values).expect("fits");
        }
        let group = groups.in_order().next().expect("one statement");
        let values = |row: &RowWrite<'_>| (0..8).map(|n| row.value(n).clone()).collect();
        let row = |row: &RowWrite<'_>| (row.origin.item, values(row));
        group.rows.iter().map(row).collect()
    }

    #[test]
    fn several_states_of_one_entity_become_the_last_one_on_the_first_base() {
        let rows = [state("b", 4, "x"), state("a", 0, "y"), state("b", 5, "z")];

        let arranged = arranged(&rows);

        let mut merged = state("b", 5, "z");
        merged[4] = Value::Int(4);
        assert_eq!(arranged, [(1, rows[1].clone()), (0, merged)]);
    }

    #[test]
    fn states_that_do_not_build_on_one_another_are_not_merged() {
        let rows = [state("b", 4, "x"), state("b", 4, "y")];

        assert_eq!(arranged(&rows).len(), 2);
    }

    #[test]
    fn statements_run_in_rank_order_and_rows_must_fit_them() {
        let (state, delete) = (state("a", 0, "x"), vec![Value::Int(9)]);
        let mut groups = Groups::default();
        let origin = Origin { item: 0, write: 0 };
        groups.add(origin, &mailbox::DELETE, &delete).expect("fits");
        groups.add(origin, &entities::STORE, &state).expect("fits");
        let short = groups.add(origin, &entities::STORE, &delete);

        assert_eq!(short.expect_err("short").kind(), StoreErrorKind::Bug);
        let names: Vec<_> = groups
            .in_order()
            .map(|group| group.statement.name())
            .collect();
        assert_eq!(names, [entities::STORE.name(), mailbox::DELETE.name()]);
    }
}
