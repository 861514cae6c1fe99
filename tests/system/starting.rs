//! How the shop starts, and how it refuses to: exit code 2 and one line that says what to do.

use std::{fs, net::TcpListener, time::Duration};

use actor_tests::{Deadline, Ended, Program, Result, Stopwatch, log::Stream};
use serde_json::json;

use crate::shop::{START_SECONDS, Shop, database_in, level, restock};

/// Far below the lease of ten seconds: a successor that waits for it takes longer.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Asserts that a program ended with code 2 and one line that holds every one of `words`.
fn assert_refused(ended: &Ended, words: &[&str], case: &str) {
    assert_eq!(ended.code, Some(2), "{case}: {ended:#?}");
    let lines: Vec<_> = ended
        .err
        .iter()
        .filter(|line| !line.trim().is_empty())
        .collect();
    assert_eq!(lines.len(), 1, "{case}: one line says why: {ended:#?}");
    for word in words {
        assert!(
            lines[0].contains(word),
            "{case}: the line names `{word}`: {}",
            lines[0]
        );
    }
}

/// Runs a shop that must refuse to start. Its log is off, so that only the refusal is printed.
async fn refused(program: Program) -> Result<Ended> {
    program
        .setting("ACTOR_LOG", "off")
        .run(Deadline::seconds(START_SECONDS))
        .await
}

#[tokio::test]
async fn a_second_program_on_the_same_file_is_refused_and_told_who_holds_it() -> Result<()> {
    let mut shop = Shop::open().await?;
    let second = Program::shop(shop.folder.path())?.setting("ACTOR_NODE_NAME", "shop-2");

    let ended = refused(second).await?;

    let holder = shop.running.id().to_string();
    assert_refused(&ended, &["shop.db", &holder, "shop-1"], "second program");
    // The first one goes on.
    restock(&mut shop.http, "tea", 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_node_starts_again_at_once_with_all_it_acknowledged() -> Result<()> {
    let mut shop = Shop::open().await?;
    restock(&mut shop.http, "tea", 7).await?;

    shop.running.kill().await?;
    let restart = Stopwatch::start();
    shop.reopen().await?;
    let took = restart.elapsed();

    assert!(
        took < AT_ONCE,
        "it took {took:?}: nobody has to wait for a dead node's lease"
    );
    assert_eq!(level(&mut shop.http, "tea").await?, 7);
    println!("ready {took:.1?} after the start");
    Ok(())
}

#[tokio::test]
async fn a_wrong_setting_is_refused_with_its_name_its_value_and_what_is_accepted() -> Result<()> {
    let cases = [
        ("ACTOR_HTTP_LISTEN", "nowhere"),
        ("ACTOR_HTTP_LISTEN", "127.0.0.1:99999"),
        ("ACTOR_SHARDS", "0"),
        ("ACTOR_SHARDS", "many"),
        ("ACTOR_LEASE_TTL", "soon"),
        ("ACTOR_DRAIN_TIMEOUT", "-1s"),
        ("ACTOR_NODE_NAME", ""),
        ("DATABASE_URL", "mysql://localhost/shop"),
    ];

    for (name, value) in cases {
        let folder = tempfile::tempdir()?;
        let ended = refused(Program::shop(folder.path())?.setting(name, value)).await?;

        assert_refused(&ended, &[name, value], &format!("{name}={value}"));
    }
    Ok(())
}

#[tokio::test]
async fn another_number_of_shards_than_the_databases_is_refused() -> Result<()> {
    let mut shop = Shop::open().await?;
    shop.running.terminate()?;
    shop.running.ended(Deadline::seconds(30)).await?;

    let ended = refused(shop.program.clone().setting("ACTOR_SHARDS", "64")).await?;

    assert_refused(
        &ended,
        &["ACTOR_SHARDS", "64", "512"],
        "another shard count",
    );
    Ok(())
}

#[tokio::test]
async fn a_flag_is_a_setting() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = Program::shop(folder.path())?
        .argument("--shards")
        .argument("none");

    let ended = refused(program).await?;

    assert_refused(&ended, &["none"], "--shards none");
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_refused_with_its_address() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let folder = tempfile::tempdir()?;

    let program = Program::shop(folder.path())?.setting("ACTOR_HTTP_LISTEN", &address);
    let ended = refused(program).await?;

    assert_refused(&ended, &[&address], "a taken port");
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_as_it_was() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = database_in(folder.path());
    let bytes = b"this is a shopping list, not a database; ".repeat(400);
    fs::write(&file, &bytes)?;

    let ended = refused(Program::shop(folder.path())?).await?;

    assert_refused(&ended, &["shop.db"], "a corrupt file");
    assert!(fs::read(&file)? == bytes, "the file was changed");
    Ok(())
}

#[tokio::test]
async fn a_database_damaged_in_the_middle_is_refused_or_costs_only_what_was_damaged() -> Result<()>
{
    let mut shop = Shop::open().await?;
    for sku in 0..50 {
        restock(&mut shop.http, &format!("sku-{sku}"), 1).await?;
    }
    shop.running.terminate()?;
    shop.running.ended(Deadline::seconds(30)).await?;
    let mut bytes = fs::read(shop.database())?;
    let page = bytes.len() / 4096 / 2 * 4096;
    bytes[page..page + 4096].fill(0xA5);
    fs::write(shop.database(), &bytes)?;

    let started = shop.program.clone().setting("ACTOR_LOG", "off").spawn()?;

    let by = Deadline::seconds(START_SECONDS);
    let mut started = started;
    if started.address(by).await.is_ok() {
        // The damaged page was not needed to start: the node runs, and answers something.
        let mut http = crate::shop::ready(&started).await?;
        let request = crate::shop::call("stock", "sku-1", "level", &json!({}));
        let answer = crate::shop::send(&mut http, &request).await?;
        assert!(
            matches!(answer.status, 200 | 500 | 503),
            "{} {}",
            answer.status,
            answer.text()
        );
    } else {
        // 2: the node met it at its start. 1: the shop did, when it looked at its shelves.
        let code = started.ended(by).await?.code();
        let said = started.log().lines(Stream::Err).join("\n");
        assert!(matches!(code, Some(1 | 2)), "{code:?}: {said}");
        assert!(!said.is_empty(), "it says why");
    }
    Ok(())
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let place = unwritable(folder.path())?;
    let url = format!("sqlite://{place}/shop.db");

    let ended = refused(Program::shop(folder.path())?.setting("DATABASE_URL", &url)).await?;

    assert_refused(&ended, &["shop.db"], "a read-only folder");
    Ok(())
}

/// Makes a folder that the shop cannot write to. Nothing stops root but a file system that has no
/// such files.
fn unwritable(inside: &std::path::Path) -> Result<String> {
    let folder = inside.join("read-only");
    fs::create_dir(&folder)?;
    let mut permissions = fs::metadata(&folder)?.permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&folder, permissions)?;
    let writable = fs::write(folder.join("probe"), b"").is_ok();
    Ok(if writable {
        "/proc".to_owned()
    } else {
        folder.to_string_lossy().into_owned()
    })
}
