//! The tables `shard_groups`, `kinds` and `hosts`: which groups of shards there are, and what is
//! known of every kind that a node of the cluster ever hosted.
//!
//! A group keeps its number and a kind its group for ever: entities are stored under the shards
//! that follow from both. What else is said of a kind is what the node said that started last.

use std::{collections::BTreeMap, sync::Arc};

use super::{Connection, Sql, StoreError, StoreErrorKind, ownership};
use crate::{
    groups::{DEFAULT_GROUP, GROUPS_MAX},
    hosting::Role,
    id::{GroupId, NodeId},
};

/// One row of `kinds`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindRow {
    /// The stable name.
    pub kind: Arc<str>,
    /// The name of its group.
    pub group: Arc<str>,
    /// What it is.
    pub role: Role,
    /// Whether the outside may call it.
    pub exposed: bool,
    /// The events its entities receive.
    pub receives: Vec<Arc<str>>,
}

/// What a database knows of groups and kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    /// By their number.
    groups: Vec<Arc<str>>,
    kinds: BTreeMap<Arc<str>, KindRow>,
}

impl Catalog {
    /// Returns a catalog of these; groups in the order of their numbers.
    pub fn new(groups: Vec<Arc<str>>, kinds: Vec<KindRow>) -> Self {
        let named = kinds.into_iter().map(|row| (row.kind.clone(), row));
        Self {
            groups,
            kinds: named.collect(),
        }
    }

    /// Returns the names of the groups, in the order of their numbers.
    pub fn groups(&self) -> &[Arc<str>] {
        &self.groups
    }

    /// Returns how many shards all groups have together, if each has `count`.
    pub fn shards(&self, count: u32) -> u32 {
        let groups = u32::try_from(self.groups.len()).expect("their number has a small bound");
        groups * count
    }

    /// Returns a group's name.
    pub fn name(&self, group: GroupId) -> Arc<str> {
        let name = self.groups.get(group.0 as usize);
        name.cloned().unwrap_or_else(|| group.0.to_string().into())
    }

    /// Returns the group of this name.
    pub fn group(&self, name: &str) -> Option<GroupId> {
        let mut numbers = (0..).map(GroupId).zip(&self.groups);
        numbers
            .find(|(_, group)| &***group == name)
            .map(|(number, _)| number)
    }

    /// Returns the kinds by name.
    pub fn kinds(&self) -> &BTreeMap<Arc<str>, KindRow> {
        &self.kinds
    }

    /// Returns what is known of a kind.
    pub fn kind(&self, kind: &str) -> Option<&KindRow> {
        self.kinds.get(kind)
    }

    /// Returns the group of a kind.
    pub fn group_of(&self, kind: &str) -> Option<GroupId> {
        self.group(&self.kind(kind)?.group)
    }

    /// Says whether a kind of this group was ever hosted.
    pub fn has_kinds_of(&self, group: GroupId) -> bool {
        let name = self.groups.get(group.0 as usize);
        self.kinds.values().any(|row| Some(&row.group) == name)
    }
}

/// The default group and no kind.
impl Default for Catalog {
    fn default() -> Self {
        Self::new(vec![DEFAULT_GROUP.into()], Vec::new())
    }
}

const GROUPS: Sql = Sql::same("SELECT name FROM shard_groups ORDER BY number");

const KINDS: Sql =
    Sql::same("SELECT kind, shard_group, role, exposed, receives FROM kinds ORDER BY kind");

/// Returns all groups and kinds.
///
/// # Errors
/// When a statement fails.
pub async fn list(c: &mut Connection) -> Result<Catalog, StoreError> {
    let mut groups = Vec::new();
    for row in c.query(&GROUPS, vec![]).await? {
        groups.push(row.text(0)?.into());
    }
    let mut kinds = Vec::new();
    for row in c.query(&KINDS, vec![]).await? {
        let receives = row.text(4)?;
        kinds.push(KindRow {
            kind: row.text(0)?.into(),
            group: row.text(1)?.into(),
            role: Role::parse(&row.text(2)?),
            exposed: row.int(3)? != 0,
            receives: receives.split_whitespace().map(Into::into).collect(),
        });
    }
    Ok(Catalog::new(groups, kinds))
}

const ADD_GROUP: Sql = Sql::same("INSERT INTO shard_groups (name, number) VALUES ($1, $2)");

const PUT_KIND: Sql = Sql::same(
    "INSERT INTO kinds (kind, shard_group, role, exposed, receives) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (kind) DO UPDATE SET role = excluded.role, exposed = excluded.exposed,
       receives = excluded.receives",
);

// Rows of nodes are kept for a day: so long a node that is down has what its kinds receive kept for
// it.
const FORGET_HOSTS: Sql =
    Sql::same("DELETE FROM hosts WHERE node = $1 OR node NOT IN (SELECT node FROM nodes)");

const ADD_HOSTS: Sql = Sql {
    sqlite: "INSERT INTO hosts (kind, node) SELECT value, $2 FROM json_each($1)",
    postgres: "INSERT INTO hosts (kind, node)
               SELECT value, $2 FROM json_array_elements_text($1::json)",
};

const DEAFEN: Sql = Sql::same(
    "UPDATE kinds SET receives = ''
     WHERE receives <> '' AND kind NOT IN (SELECT kind FROM hosts)",
);

/// Makes known what the node hosts, with the groups it names and `count` shards for each; returns
/// everything that is known then. Kinds that no node hosts any more receive nothing from now on.
///
/// Must run in the transaction of a registration, after [`nodes::register`](super::nodes::register)
/// whose lock keeps other registrations out: two of them would give two groups one number.
///
/// # Errors
/// [`StoreErrorKind::Incompatible`] when a kind is recorded in another group, naming both, or when
/// there are too many groups; what the statements returned otherwise.
pub async fn record(
    c: &mut Connection,
    node: &NodeId,
    hosted: &[KindRow],
    count: u32,
) -> Result<Catalog, StoreError> {
    let known = list(c).await?;
    let mut groups = known.groups.clone();
    for row in hosted {
        match known.kind(&row.kind) {
            Some(recorded) if recorded.group != row.group => return Err(moved(row, recorded)),
            Some(recorded) if recorded == row => continue,
            _ => {}
        }
        if !groups.contains(&row.group) {
            if groups.len() == GROUPS_MAX {
                return Err(too_many(row));
            }
            let number = u32::try_from(groups.len()).expect("their number has a small bound");
            let values = vec![(&row.group).into(), number.into()];
            c.execute(&ADD_GROUP, values).await?;
            groups.push(row.group.clone());
        }
        put(c, row).await?;
    }
    c.execute(&FORGET_HOSTS, vec![node.into()]).await?;
    let kinds: serde_json::Value = hosted.iter().map(|row| &*row.kind).collect();
    let values = vec![kinds.to_string().into(), node.into()];
    c.execute(&ADD_HOSTS, values).await?;
    c.execute(&DEAFEN, vec![]).await?;
    let catalog = list(c).await?;
    ownership::ensure(c, catalog.shards(count)).await?;
    Ok(catalog)
}

async fn put(c: &mut Connection, row: &KindRow) -> Result<(), StoreError> {
    let values = vec![
        (&row.kind).into(),
        (&row.group).into(),
        row.role.name().into(),
        i64::from(row.exposed).into(),
        row.receives.join(" ").into(),
    ];
    c.execute(&PUT_KIND, values).await.map(drop)
}

fn moved(row: &KindRow, recorded: &KindRow) -> StoreError {
    let (kind, ours, theirs) = (&row.kind, &row.group, &recorded.group);
    StoreError::new(
        StoreErrorKind::Incompatible,
        format_args!(
            "the kind `{kind}` is in the group `{theirs}` of this database, this program has it in \
             the group `{ours}`: accepted is `group = \"{theirs}\"`, or another name for the kind"
        ),
    )
}

fn too_many(row: &KindRow) -> StoreError {
    let (kind, group) = (&row.kind, &row.group);
    StoreError::new(
        StoreErrorKind::Incompatible,
        format_args!(
            "the kind `{kind}` would begin the group `{group}`, and this database has {GROUPS_MAX} \
             groups: accepted are no more"
        ),
    )
}
