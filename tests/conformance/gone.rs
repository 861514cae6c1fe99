//! What is remembered of nodes that are gone, and when it is forgotten.

use actor_core::{
    id::{Incarnation, NodeId, ShardId},
    store::{
        Sql, declined,
        nodes::{self},
    },
};
use actor_tests::{Result, bed::Bed};

use crate::{for_each_backend, leases::register};

const DOUBT: Sql = Sql::same("INSERT INTO distrust (witness, until) VALUES ($1, 0)");

const COUNT_NAMED: Sql = Sql::same(
    "SELECT (SELECT COUNT(*) FROM declined WHERE node = $1)
       + (SELECT COUNT(*) FROM distrust WHERE witness = $1)",
);

/// What was said of names that never come back goes with their rows.
#[tokio::test]
async fn what_was_noted_of_nodes_that_are_long_gone_is_forgotten_with_them() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        for node in ["gone", "recent"] {
            let life = register(&bed, node).await?;
            let noted = bed.sql(move |c| {
                Box::pin(async move {
                    let node = NodeId::new(node);
                    declined::decline(c, &[ShardId(1), ShardId(2)], &node, life).await?;
                    c.execute(&DOUBT, vec![(&node).into()]).await?;
                    nodes::leave(c, &node, life).await
                })
            });
            assert!(noted.await?);
        }
        let named = async |node: &'static str| {
            let counted = bed.sql(move |c| {
                Box::pin(async move { c.query_one(&COUNT_NAMED, vec![node.into()]).await })
            });
            counted.await?.expect("a row").int(0)
        };
        let before = (named("gone").await?, named("recent").await?);
        let old = bed.sql(|c| Box::pin(c.execute(&A_DAY_AGO, vec!["gone".into()])));
        assert_eq!(old.await?, 1);

        register(&bed, "other").await?;

        assert_eq!(before, (3, 3));
        assert_eq!((named("gone").await?, named("recent").await?), (0, 3));
        Ok(())
    })
    .await
}

const A_DAY_AGO: Sql = Sql::same("UPDATE nodes SET ended_at = ended_at - 90000000 WHERE node = $1");

/// Rows of the long gone go; what they were called begins above their lives.
#[tokio::test]
async fn nodes_that_are_long_gone_are_forgotten_but_no_life_is_counted_twice() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        for _ in 0..3 {
            register(&bed, "gone").await?;
        }
        let recent = register(&bed, "recent").await?;
        for (node, life) in [("gone", Incarnation(3)), ("recent", recent)] {
            let left = bed.sql(move |c| {
                Box::pin(async move { nodes::leave(c, &NodeId::new(node), life).await })
            });
            assert!(left.await?);
        }
        let old = bed.sql(|c| Box::pin(c.execute(&A_DAY_AGO, vec!["gone".into()])));
        assert_eq!(old.await?, 1);

        register(&bed, "other").await?;
        let rows = bed.sql(|c| Box::pin(nodes::list(c))).await?;

        let names: Vec<_> = rows.iter().map(|row| row.node.as_str()).collect();
        assert!(
            !names.contains(&"gone") && names.contains(&"recent"),
            "{names:?}"
        );
        assert_eq!(register(&bed, "gone").await?, Incarnation(4));
        assert_eq!(register(&bed, "recent").await?.0, recent.0 + 1);
        Ok(())
    })
    .await
}

/// Only short lives that ended without order count, and one long or orderly life forgives.
#[tokio::test]
async fn falls_are_counted_and_an_orderly_end_forgives_them() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let falls = async |bed: &Bed| -> Result<u32> {
            let rows = bed.sql(|c| Box::pin(nodes::list(c))).await?;
            let row = rows.iter().find(|row| row.node.as_str() == "b");
            Ok(row.map_or(0, |row| row.falls))
        };
        for fallen in 0..3 {
            register(&bed, "b").await?;
            assert_eq!(falls(&bed).await?, fallen);
        }

        let life = Incarnation(3);
        let left = bed
            .sql(move |c| Box::pin(async move { nodes::leave(c, &NodeId::new("b"), life).await }));
        assert!(left.await?);
        register(&bed, "b").await?;

        assert_eq!(falls(&bed).await?, 0);
        Ok(())
    })
    .await
}
