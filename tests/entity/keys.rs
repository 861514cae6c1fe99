//! One key, one effect: whether it came as a call or as a cast, and in which order.

use tempfile::TempDir;

use super::{durable::life, kinds::Account};

async fn settled(account: &super::kinds::AccountRef) -> i64 {
    account.balance().await.expect("it answers")
}

#[tokio::test]
async fn a_cast_and_a_call_with_the_same_key_count_once() {
    let folder = TempDir::new().expect("a folder");
    let (_hosting, client) = life(folder.path()).await;

    let first = client.entity::<Account>("cast-first");
    first.deposit(5).key("k").cast().await.expect("stored");
    let called = first.deposit(5).key("k").await;
    let second = client.entity::<Account>("call-first");
    assert_eq!(second.deposit(5).key("k").await, Ok(5));
    second.deposit(5).key("k").cast().await.expect("stored");
    second.deposit(1).await.expect("it goes on");

    assert_eq!(called, Ok(5));
    assert_eq!(settled(&first).await, 5);
    assert_eq!(settled(&second).await, 6);
}

#[tokio::test]
async fn casts_and_calls_at_the_same_time_count_once_and_hold_nobody_up() {
    let folder = TempDir::new().expect("a folder");
    let (_hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");
    let tasks: Vec<_> = (0..8)
        .flat_map(|_| [true, false])
        .map(|cast| {
            let account = account.clone();
            tokio::spawn(async move {
                if cast {
                    account.deposit(5).key("k").cast().await.expect("stored");
                } else {
                    account.deposit(5).key("k").await.expect("answered");
                }
            })
        })
        .collect();

    for task in tasks {
        task.await.expect("it ends");
    }

    assert_eq!(account.deposit(1).await, Ok(6));
    assert_eq!(settled(&account).await, 6);
}
