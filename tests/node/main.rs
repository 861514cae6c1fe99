//! A node as a program sees it: start, takeover, refusal, stop, on a real SQLite file.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actor_cluster::{
    Node, NodeBuilder, Settings, StartError,
    node::{Phase, SingletonState, StartErrorKind},
};
use actor_core::{
    Entity, ShardId, handlers,
    store::{
        nodes::{self, NodeRow, NodeState},
        ownership,
    },
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Longer than any test.
const HOUR: Duration = Duration::from_secs(3600);

/// Counts, and keeps the count.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
struct Counter {
    count: u64,
}

#[handlers]
impl Counter {
    /// Adds and returns the sum.
    pub fn add(&mut self, amount: u64) -> u64 {
        self.count += amount;
        self.count
    }
}

/// Claims the counter's name.
#[derive(Debug, Default, Entity)]
#[entity(kind = "counter")]
struct Impostor;

#[handlers]
impl Impostor {
    /// Returns nothing of interest.
    pub fn nothing(&self) -> bool {
        false
    }
}

async fn start(file: &Path, arguments: &[&str]) -> Result<Node, StartError> {
    let url = format!("sqlite://{}", file.display());
    let database = ["--database-url", &url];
    let arguments = database.iter().chain(arguments).copied();
    let settings = Settings::from_arguments(arguments).expect("the settings are accepted");
    Node::builder()
        .settings(settings)
        .host::<Counter>()
        .start()
        .await
}

async fn rows(node: &Node) -> Vec<NodeRow> {
    let rows = node
        .hosting()
        .store()
        .read("nodes", |c| Box::pin(nodes::list(c)));
    rows.await.expect("the rows are read")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[tokio::test]
async fn a_second_node_on_a_file_is_refused_and_told_who_holds_it() {
    let folder = folder();
    let file = folder.path().join("a.db");
    let first = start(&file, &["--node-name", "first"])
        .await
        .expect("the first starts");

    let error = start(&file, &["--node-name", "second"])
        .await
        .expect_err("held");

    assert_eq!(error.kind(), StartErrorKind::Held);
    assert_eq!(error.exit_code(), 2);
    let line = error.to_string();
    let pid = std::process::id().to_string();
    for part in ["a.db.lock", "node first", &pid] {
        assert!(line.contains(part), "{line}");
    }
    first.shutdown().await;
    start(&file, &[])
        .await
        .expect("the lock is free")
        .shutdown()
        .await;
}

#[tokio::test]
async fn a_node_that_died_is_succeeded_at_once_with_higher_epochs() {
    let folder = folder();
    let file = folder.path().join("a.db");
    let first = start(&file, &["--node-name", "n"]).await.expect("starts");
    let counter = first.client().entity::<Counter>("a");
    counter.add(2).await.expect("stored");
    let epochs = first.hosting().shards().owned();
    // Nothing is said to the database: that is how a killed process ends.
    first.hosting().stop().await;
    drop((first, counter));

    let second = start(&file, &["--node-name", "n"]).await.expect("starts");

    assert_eq!(second.incarnation().0, 2);
    let raised = second.hosting().shards().owned();
    assert_eq!(raised.len(), 512);
    assert!(raised.iter().zip(&epochs).all(|(new, old)| new.1 > old.1));
    assert_eq!(second.client().entity::<Counter>("a").add(1).await, Ok(3));
    second.shutdown().await;
}

#[tokio::test]
async fn a_node_under_a_new_name_succeeds_the_one_before() {
    let folder = folder();
    let file = folder.path().join("a.db");
    let first = start(&file, &["--node-name", "old"]).await.expect("starts");
    first.hosting().stop().await;
    drop(first);

    let second = start(&file, &["--node-name", "new"]).await.expect("starts");

    assert_eq!(second.hosting().shards().owned().len(), 512);
    let states: Vec<_> = rows(&second)
        .await
        .into_iter()
        .map(|row| (row.node.to_string(), row.state))
        .collect();
    assert_eq!(
        states,
        [
            ("new".to_owned(), NodeState::Up),
            ("old".to_owned(), NodeState::Dead)
        ]
    );
    second.shutdown().await;
}

#[tokio::test]
async fn only_messages_of_a_life_that_ended_badly_are_suspect() {
    let folder = folder();
    let file = folder.path().join("a.db");
    for (in_order, suspect) in [(true, false), (false, true)] {
        let node = start(&file, &[]).await.expect("starts");
        let counter = node.client().entity::<Counter>("a");
        // A timer: its row is still there when the node is gone.
        counter.add(1).after(HOUR).await.expect("stored");
        drop(counter);
        if in_order {
            node.shutdown().await;
        } else {
            node.hosting().stop().await;
        }
        drop(node);

        let node = start(&file, &[]).await.expect("starts");
        assert_eq!(
            node.hosting().is_suspect(ShardId(0), 1),
            suspect,
            "in order: {in_order}"
        );
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_node_that_stops_in_order_releases_everything_and_says_so() {
    let folder = folder();
    let file = folder.path().join("a.db");
    let node = start(&file, &["--node-name", "n"]).await.expect("starts");
    assert!(node.is_ready());

    let stopped = node.shutdown().await;

    assert_eq!(stopped.unfinished, 0);
    assert_eq!((node.is_ready(), node.phase()), (false, Phase::Stopped));
    assert_eq!(node.ended().await, Phase::Stopped);
    let other = start(&file, &["--node-name", "other"])
        .await
        .expect("starts");
    let former = rows(&other)
        .await
        .into_iter()
        .find(|row| row.node.as_str() == "n");
    assert_eq!(former.expect("its row").state, NodeState::Left);
    let shards = other
        .hosting()
        .store()
        .read("shards", |c| Box::pin(ownership::list(c)));
    assert!(
        shards
            .await
            .expect("read")
            .iter()
            .all(|row| row.epoch.0 == 2)
    );
    other.shutdown().await;
}

#[tokio::test]
async fn another_number_of_shards_than_the_databases_is_refused() {
    let folder = folder();
    let file = folder.path().join("a.db");
    start(&file, &["--shards", "8"])
        .await
        .expect("starts")
        .shutdown()
        .await;

    let error = start(&file, &["--shards", "9"]).await.expect_err("refused");

    assert_eq!(
        (error.kind(), error.exit_code()),
        (StartErrorKind::Setting, 2)
    );
    let line = error.to_string();
    assert!(
        line.contains("shards = 8") && line.contains("shards = 9"),
        "{line}"
    );
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_named_in_one_line() {
    let folder = folder();
    let nowhere = folder.path().join("nowhere").join("a.db");
    let inner = folder.path().join("inner.db");
    std::fs::create_dir(&inner).expect("made");
    let broken = folder.path().join("broken.db");
    std::fs::write(&broken, "this is no database, however long one looks at it").expect("written");

    for file in [nowhere.as_path(), inner.as_path(), broken.as_path()] {
        let error = start(file, &[]).await.expect_err("refused");

        assert_eq!(
            (error.kind(), error.exit_code()),
            (StartErrorKind::Store, 2)
        );
        let line = error.to_string();
        let name = file.file_name().expect("named").to_string_lossy();
        assert!(line.contains(&*name) && !line.contains('\n'), "{line}");
    }
}

#[tokio::test]
async fn two_kinds_of_one_name_do_not_start() {
    let node = Node::builder()
        .database_url("sqlite::memory:")
        .host::<(Counter, Impostor)>();

    let error = node.start().await.expect_err("refused");

    assert_eq!(error.kind(), StartErrorKind::Wiring);
    assert!(error.to_string().contains("`counter`"), "{error}");
}

/// The counter in another group, as a later release may have it by mistake.
#[derive(Debug, Default, Entity)]
#[entity(kind = "counter", group = "media")]
struct Moved;

#[handlers]
impl Moved {
    /// Returns nothing of interest.
    pub fn nothing(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_kind_in_another_group_than_the_database_has_it_in_is_refused() {
    let folder = folder();
    let file = folder.path().join("a.db");
    let first = start(&file, &[]).await.expect("starts");
    first.shutdown().await;

    let moved = Node::builder()
        .database_url(format!("sqlite://{}", file.display()))
        .host::<Moved>();
    let error = moved.start().await.expect_err("refused");

    assert_eq!(error.kind(), StartErrorKind::Setting);
    assert_eq!(error.exit_code(), 2);
    assert_eq!(
        error.to_string(),
        "the kind `counter` is in the group `default` of this database, this program has it in the \
         group `media`: accepted is `group = \"default\"`, or another name for the kind"
    );
    let again = start(&file, &[]).await.expect("nothing was changed");
    again.shutdown().await;
}

/// A node that is alone owns the shards of all groups.
#[tokio::test]
async fn a_node_that_is_alone_serves_every_group() {
    let node = Node::builder()
        .database_url("sqlite::memory:")
        .host::<(Counter, Screen)>()
        .start()
        .await
        .expect("starts");

    let lit = node.client().entity::<Screen>("a").light().await;
    let added = node.client().entity::<Counter>("a").add(1).await;

    assert_eq!((lit, added), (Ok(true), Ok(1)));
    assert_eq!(node.hosting().shards().owned().len(), 2 * 512);
    let shard = node.hosting().shard_of("screen", "a");
    assert_eq!(shard.0, 512 + ShardId::of("screen", "a", 512).0);
    node.shutdown().await;
}

/// Is in a group of its own.
#[derive(Debug, Default, Entity)]
#[entity(group = "media")]
struct Screen;

#[handlers]
impl Screen {
    /// Says that it is lit.
    pub fn light(&self) -> bool {
        true
    }
}

/// Tells that it runs, and waits until it must end.
fn greeter(builder: NodeBuilder, runs: &Arc<Notify>, ended: &Arc<AtomicBool>) -> NodeBuilder {
    let (runs, ended) = (runs.clone(), ended.clone());
    builder.singleton("greeter", move |singleton| {
        let (runs, ended) = (runs.clone(), ended.clone());
        async move {
            runs.notify_one();
            singleton.stopping().await;
            singleton.entity::<Counter>("bows").add(1).await?;
            ended.store(true, Ordering::SeqCst);
            Ok(())
        }
    })
}

#[tokio::test]
async fn a_node_that_is_alone_runs_its_singletons_at_once_and_lets_them_end() {
    let folder = folder();
    let url = format!("sqlite://{}", folder.path().join("a.db").display());
    let (runs, ended) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let mut settings = Settings::default();
    settings.lease_ttl = HOUR / 12;
    let builder = || {
        let builder = Node::builder().settings(settings.clone());
        builder.database_url(&url).host::<Counter>()
    };
    let first = greeter(builder(), &runs, &ended).start().await;
    let first = first.expect("starts");
    runs.notified().await;
    // Killed: the file's lock proves it, so nobody waits for a lease.
    first.hosting().stop().await;
    drop(first);

    let second = greeter(builder(), &runs, &ended).start().await;
    let second = second.expect("starts");
    let began = second.hosting().now();
    runs.notified().await;
    let took = second.hosting().now() - began;
    let shown = second.cluster().singletons;
    second.shutdown().await;

    assert!(took < HOUR / 15, "{took:?}: it waited for a lease");
    assert_eq!(shown.len(), 1);
    assert_eq!(
        (&*shown[0].name, shown[0].state),
        ("greeter", SingletonState::Runs)
    );
    assert!(
        ended.load(Ordering::SeqCst),
        "it was told, and could still call"
    );
}

#[tokio::test]
async fn singletons_with_names_that_are_no_good_do_not_start() {
    for names in [&["same", "same"][..], &[""], &["actor:sweeper"]] {
        let mut builder = Node::builder().database_url("sqlite::memory:");
        for name in names {
            builder = builder.singleton(name, |_| async { Ok(()) });
        }

        let error = builder.start().await.expect_err("refused");

        assert_eq!(error.kind(), StartErrorKind::Wiring);
        assert!(error.to_string().contains(names[0]), "{error}");
    }
}

#[tokio::test]
async fn ids_of_all_lives_on_a_file_differ_and_grow() {
    let folder = folder();
    let file = folder.path().join("a.db");
    let mut ids = Vec::new();
    for _ in 0..3 {
        let node = start(&file, &[]).await.expect("starts");
        for _ in 0..100 {
            ids.push(node.client().snowflake().await.expect("made"));
        }
        node.shutdown().await;
        assert!(node.client().snowflake().await.is_err(), "it has stopped");
    }

    assert!(ids.windows(2).all(|two| two[0] < two[1]), "{ids:?}");
}
