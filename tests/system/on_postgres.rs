//! One shop on PostgreSQL: the same answers, a successor that waits for the lease, and a name that
//! only one process may have.

use actor_tests::{Deadline, Program, Result, bed::Backend};
use serde_json::json;

use crate::shop::{START_SECONDS, Shop, call, level, restock, succeed};

/// A shop on a database of its own, with a short lease.
async fn open(backend: &Backend) -> Result<Shop> {
    let url = backend.url.clone();
    let with = |program: Program| {
        program
            .setting("DATABASE_URL", url)
            .setting("ACTOR_LEASE_TTL", "3s")
    };
    Shop::open_with(with).await
}

/// Restocks tea under a key, twice, and buys one.
async fn shop_for_tea(shop: &mut Shop, key: &str) -> Result<()> {
    let restocked = call("stock", "tea", "restock", &json!({ "quantity": 5 }));
    let restocked = restocked.header("idempotency-key", key);
    let http = &mut shop.http;
    assert_eq!(succeed(http, &restocked).await?, 5);
    assert_eq!(succeed(http, &restocked).await?, 5);
    let line = json!({ "sku": "tea", "quantity": 2 });
    succeed(http, &call("cart", "c-1", "add", &line)).await?;
    let order = json!({ "cart": "c-1", "card": "4242" });
    let order = actor_tests::Request::post("/sagas/checkout/o-1".to_owned(), &order);
    succeed(http, &order).await?;
    let ended = actor_tests::Request::get("/sagas/checkout/o-1?wait=5s");
    assert_eq!(succeed(http, &ended).await?["state"], "completed");
    assert_eq!(level(http, "tea").await?, 3);
    Ok(())
}

#[tokio::test]
async fn a_killed_node_on_postgres_is_followed_once_its_lease_ran_out() -> Result<()> {
    for backend in [Backend::postgres(""), Backend::pooled("")] {
        let mut shop = open(&backend).await?;
        shop_for_tea(&mut shop, "k-1").await?;

        shop.running.kill().await?;
        shop.reopen().await?;

        assert_eq!(level(&mut shop.http, "tea").await?, 3);
        restock(&mut shop.http, "tea", 1).await?;
        assert_eq!(level(&mut shop.http, "tea").await?, 4);
        shop.running.terminate()?;
        let ended = shop.running.ended(Deadline::seconds(30)).await?;
        assert_eq!(ended.code(), Some(0));
        // It left in order: nobody has to wait for a lease.
        shop.reopen().await?;
        assert_eq!(level(&mut shop.http, "tea").await?, 4);
    }
    Ok(())
}

#[tokio::test]
async fn a_second_program_of_the_same_name_is_refused() -> Result<()> {
    let backend = Backend::postgres("");
    let mut shop = open(&backend).await?;
    let second = Program::shop(shop.folder.path())?
        .setting("DATABASE_URL", backend.url.clone())
        .setting("ACTOR_LEASE_TTL", "3s")
        .setting("ACTOR_LOG", "off");

    let ended = second.run(Deadline::seconds(START_SECONDS)).await?;

    assert_eq!(ended.code, Some(2), "{ended:#?}");
    let told = ended
        .err
        .iter()
        .any(|line| line.contains("ACTOR_NODE_NAME"));
    assert!(told, "{ended:#?}");
    // The first one goes on.
    restock(&mut shop.http, "tea", 1).await?;
    Ok(())
}

/// Its peers on other machines would dial themselves.
#[tokio::test]
async fn a_node_that_only_its_own_machine_can_dial_is_refused_beside_a_database_of_another()
-> Result<()> {
    let backend = Backend::postgres("");
    // Read by the resolver as this machine, and by nobody else as an address: so the database
    // answers, and for all the node knows it is far away.
    let far = backend.url.replacen("@127.0.0.1:", "@127.1:", 1);
    let program = Program::shop(backend.folder.path())?
        .setting("DATABASE_URL", far)
        .setting("ACTOR_CLUSTER_SECRET", "known to the tests only")
        .setting("ACTOR_CLUSTER_LISTEN", "127.0.0.1:0")
        .setting("ACTOR_LOG", "off");

    let ended = program.run(Deadline::seconds(30)).await?;

    assert_eq!(ended.code, Some(2), "{ended:#?}");
    let said = ended.err.join("\n");
    assert!(
        said.contains("ACTOR_CLUSTER_ADVERTISE is 127.0.0.1:"),
        "{said}"
    );
    Ok(())
}
