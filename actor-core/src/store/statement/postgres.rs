//! The multi-row form of a statement in Postgres: one array a column, any number of rows.

use super::ColumnType;

/// Returns `head SELECT … FROM UNNEST(…) tail`.
///
/// A time is two arrays: a number of milliseconds, and whether it counts from the database's now.
pub(super) fn text(head: &str, columns: &[ColumnType], tail: &str) -> String {
    let (mut selected, mut arrays, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for (index, column) in columns.iter().enumerate() {
        let name = format!("column{}", index + 1);
        arrays.push(format!("${}::{}[]", arrays.len() + 1, type_name(*column)));
        names.push(name.clone());
        if *column == ColumnType::Time {
            arrays.push(format!("${}::boolean[]", arrays.len() + 1));
            names.push(format!("{name}_counted"));
            selected.push(format!(
                "CASE WHEN {name}_counted THEN actor_now() + {name} ELSE {name} END AS {name}"
            ));
        } else {
            selected.push(name);
        }
    }
    let [selected, arrays, names] = [selected, arrays, names].map(|list| list.join(", "));
    format!("{head} SELECT {selected} FROM UNNEST({arrays}) AS batch ({names}) {tail}")
}

fn type_name(column: ColumnType) -> &'static str {
    match column {
        ColumnType::Int | ColumnType::Time => "bigint",
        ColumnType::Text => "text",
        ColumnType::Blob => "bytea",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_from_now_or_taken_as_it_is() {
        let text = text(
            "UPDATE t SET at = new.column2 FROM (",
            &[ColumnType::Int, ColumnType::Time],
            ") AS new WHERE t.a = new.column1",
        );

        assert_eq!(
            text,
            "UPDATE t SET at = new.column2 FROM ( SELECT column1, \
             CASE WHEN column2_counted THEN actor_now() + column2 ELSE column2 END AS column2 \
             FROM UNNEST($1::bigint[], $2::bigint[], $3::boolean[]) \
             AS batch (column1, column2, column2_counted) ) AS new WHERE t.a = new.column1"
        );
    }
}
