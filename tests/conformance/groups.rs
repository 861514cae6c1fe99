//! Groups of shards and what is known of kinds: one number for each group, one group for each kind,
//! whoever registers when.

use actor_core::{
    hosting::Role,
    id::{GroupId, NodeId},
    store::{
        BoxFuture, Connection, StoreError, StoreErrorKind,
        kinds::{self, Catalog, KindRow},
        nodes, ownership,
    },
};
use actor_tests::{
    Result,
    bed::{Bed, SHARDS, TTL},
};

use crate::for_each_backend;

pub(crate) fn kind(name: &str, group: &str) -> KindRow {
    KindRow {
        kind: name.into(),
        group: group.into(),
        role: Role::DurableEntity,
        exposed: true,
        receives: vec!["closed".into(), "opened".into()],
    }
}

/// Registers a node that hosts these, in a transaction that is open.
pub(crate) fn register_on<'c>(
    c: &'c mut Connection,
    node: &'static str,
    hosted: Vec<KindRow>,
) -> BoxFuture<'c, Result<Catalog, StoreError>> {
    Box::pin(async move {
        let node = NodeId::new(node);
        nodes::register(c, &node, "host:1", TTL).await?;
        kinds::record(c, &node, &hosted, SHARDS).await
    })
}

async fn register(
    bed: &Bed,
    node: &'static str,
    hosted: Vec<KindRow>,
) -> Result<Catalog, StoreError> {
    bed.sql(move |c| register_on(c, node, hosted)).await
}

#[tokio::test]
async fn a_new_group_gets_the_next_number_and_shards_of_its_own() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;

        register(&bed, "b", vec![kind("cart", "default")]).await?;
        register(&bed, "c", vec![kind("clip", "media"), kind("page", "web")]).await?;
        let known = register(&bed, "c", vec![kind("clip", "media")]).await?;

        assert_eq!(known.group_of("cart"), Some(GroupId(0)));
        assert_eq!(known.group_of("clip"), Some(GroupId(1)));
        assert_eq!(known.group_of("page"), Some(GroupId(2)));
        assert_eq!(known.kind("clip"), Some(&kind("clip", "media")));
        let rows = bed.sql(|c| Box::pin(ownership::list(c))).await?;
        assert_eq!(rows.len(), 3 * SHARDS as usize);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_kind_in_another_group_is_refused_and_nothing_is_recorded() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let before = register(&bed, "b", vec![kind("cart", "default")]).await?;

        let hosted = vec![kind("aside", "web"), kind("cart", "media")];
        let refused = register(&bed, "c", hosted).await;

        let error = refused.expect_err("refused");
        assert_eq!(error.kind(), StoreErrorKind::Incompatible);
        let text = error.to_string();
        for part in ["`cart`", "`default`", "`media`"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(bed.sql(|c| Box::pin(kinds::list(c))).await?, before);
        let rows = bed.sql(|c| Box::pin(nodes::list(c))).await?;
        assert!(rows.iter().all(|row| row.node.as_str() != "c"), "{rows:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_kind_that_no_node_hosts_any_more_receives_nothing() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let both = || vec![kind("cart", "default"), kind("clip", "media")];
        let receives = |known: &Catalog| known.kind("clip").map(|row| row.receives.len());
        register(&bed, "b", both()).await?;
        register(&bed, "c", both()).await?;

        let one_left = register(&bed, "b", vec![kind("cart", "default")]).await?;
        let none_left = register(&bed, "c", vec![kind("cart", "default")]).await?;
        let back = register(&bed, "c", both()).await?;

        assert_eq!(receives(&one_left), Some(2));
        assert_eq!(receives(&none_left), Some(0));
        assert_eq!(receives(&back), Some(2));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_node_says_which_groups_it_is_a_member_of_and_a_new_life_says_it_anew() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let groups = async || {
            let rows = bed.sql(|c| Box::pin(nodes::list(c))).await?;
            let row = rows.into_iter().find(|row| row.node.as_str() == "b");
            Ok::<_, StoreError>(row.expect("it is there").groups)
        };
        let life = bed
            .sql(|c| Box::pin(async { nodes::register(c, &NodeId::new("b"), "", TTL).await }))
            .await?;
        let said = bed.sql(move |c| {
            Box::pin(async move {
                nodes::set_groups(c, &NodeId::new("b"), life, &[GroupId(0), GroupId(12)]).await
            })
        });
        said.await?;
        assert_eq!(groups().await?, [GroupId(0), GroupId(12)]);

        bed.sql(|c| Box::pin(async { nodes::register(c, &NodeId::new("b"), "", TTL).await }))
            .await?;

        assert_eq!(groups().await?, []);
        Ok(())
    })
    .await
}
