//! Placement at the sizes people have, and at the size nobody should reach.

use super::*;

fn weights(names: &[&str]) -> Weights {
    names.iter().map(|name| (NodeId::new(name), 1)).collect()
}

fn lives(names: &[&str]) -> Lives {
    let lives = names.iter().map(|name| (NodeId::new(name), Incarnation(1)));
    lives.collect()
}

fn even(count: u32, names: &[&str]) -> Vec<NodeId> {
    let assignment = assign(0..count, &weights(names), &Declined::new());
    assignment.owners().cloned().collect()
}

fn loads(owners: &[NodeId]) -> BTreeMap<&str, usize> {
    let mut loads = BTreeMap::new();
    for owner in owners {
        *loads.entry(owner.as_str()).or_default() += 1;
    }
    loads
}

#[test]
fn no_node_is_given_much_more_than_its_share() {
    for count in [1, 7, 16, 512] {
        for names in [
            &["a"][..],
            &["a", "b"],
            &["a", "b", "c"],
            &["a", "b", "c", "d", "e"],
        ] {
            let owners = even(count, names);

            assert_eq!(owners.len(), count as usize);
            let most = (count as usize * 120).div_ceil(names.len() * 100);
            assert!(
                loads(&owners).values().all(|load| *load <= most),
                "{count} {names:?}"
            );
        }
    }
    assert!(even(16, &[]).is_empty());
}

#[test]
fn a_node_that_leaves_moves_little_but_its_own_shards() {
    let before = even(512, &["a", "b", "c", "d"]);
    let after = even(512, &["a", "b", "c"]);

    let moved = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .count();

    let own = before.iter().filter(|owner| owner.as_str() == "d").count();
    assert!(
        moved <= own + 512 / 10,
        "{moved} moved, {own} were the leaver's"
    );
}

#[test]
fn shards_of_the_dead_are_taken_and_shards_of_the_living_given_up_by_their_owner_only() {
    let (a, b) = (NodeId::new("a"), NodeId::new("b"));
    let there = lives(&["a", "b"]);
    let wanted = Wanted::of(8, &[weights(&["a", "b"])], &Declined::new());
    let wanted_by = |node: &NodeId| -> Vec<ShardId> {
        let shards = (0..8).map(ShardId);
        shards
            .filter(|shard| wanted.owner(*shard) == Some(node))
            .collect()
    };
    let all = |name: &str, life| vec![Some((NodeId::new(name), Incarnation(life))); 8];

    for rows in [all("dead", 1), all("b", 0), vec![None; 8]] {
        let expected = Moves {
            take: wanted_by(&a),
            give_up: vec![],
        };
        assert_eq!(moves(&a, &there, &rows, &wanted), expected);
    }
    let mine = all("a", 1);
    let expected = Moves {
        take: vec![],
        give_up: wanted_by(&b),
    };
    assert_eq!(moves(&a, &there, &mine, &wanted), expected);
    assert_eq!(moves(&b, &there, &mine, &wanted), Moves::default());
    let nobody = Wanted::of(8, &[Weights::new()], &Declined::new());
    assert_eq!(moves(&a, &there, &mine, &nobody), Moves::default());
}

#[test]
fn a_declined_shard_goes_to_a_node_that_can_serve_it_and_others_stay() {
    let (a, b) = (NodeId::new("a"), NodeId::new("b"));
    let both = weights(&["a", "b"]);
    let before = even(16, &["a", "b"]);
    let of_a: Vec<_> = (0..16)
        .map(ShardId)
        .filter(|shard| before[shard.0 as usize] == a)
        .collect();
    let by = |names: &[&NodeId]| -> BTreeSet<NodeId> {
        names.iter().map(|node| (*node).clone()).collect()
    };
    let declined = Declined::from([(of_a[0], by(&[&a])), (of_a[1], by(&[&a, &b]))]);

    let after = Wanted::of(16, &[both], &declined);

    let owners: Vec<_> = after.groups[0].owners().cloned().collect();
    let differ = (0..16).filter(|shard| before[*shard] != owners[*shard]);
    assert_eq!(differ.collect::<Vec<_>>(), [of_a[0].0 as usize]);
    let mine: Vec<_> = before
        .iter()
        .map(|node| Some((node.clone(), Incarnation(1))))
        .collect();
    let moves = moves(&a, &lives(&["a", "b"]), &mine, &after);
    assert_eq!(moves.give_up, [of_a[0]]);
}

#[test]
fn what_was_computed_is_kept_until_something_changes() {
    let (both, one) = (weights(&["a", "b"]), weights(&["a"]));
    let mut cached = Cached::default();
    let declined = Declined::from([(ShardId(0), BTreeSet::from([NodeId::new("a")]))]);
    let changes = [
        (64, both.clone(), Declined::new()),
        (64, both.clone(), declined.clone()),
        (64, one, declined.clone()),
        (32, both, declined),
    ];

    for (count, weights, declined) in changes {
        let members = vec![weights];
        let fresh = Wanted::of(count, &members, &declined);
        assert_eq!(
            cached.assign(count, members.clone(), declined.clone()),
            &fresh
        );
        let kept = cached.assign(count, members.clone(), declined.clone());
        let kept = kept.groups.as_ptr();
        let again = cached.assign(count, members, declined).groups.as_ptr();
        assert_eq!(again, kept, "it was computed twice");
    }
}

#[test]
fn the_shards_of_a_group_are_shared_among_its_members_only() {
    let table: [(&[&[&str]], &str); 4] = [
        (&[&["a", "b"], &["b", "c"]], "one node is in both"),
        (&[&["a", "b"], &["c", "d", "e"]], "nobody is in both"),
        (&[&["a"], &[]], "one has no members"),
        (&[&[], &["a"], &["a", "b"]], "the first has none"),
    ];
    for (groups, claim) in table {
        let members: Vec<_> = groups.iter().map(|names| weights(names)).collect();

        let wanted = Wanted::of(64, &members, &Declined::new());

        for (group, names) in (0..).zip(groups) {
            let shards = (group * 64..(group + 1) * 64).map(ShardId);
            let owners: Vec<_> = shards
                .filter_map(|shard| wanted.owner(shard).cloned())
                .collect();
            let loads = loads(&owners);
            let expected = if names.is_empty() { 0 } else { 64 };
            assert_eq!(owners.len(), expected, "{claim}");
            assert!(
                loads.keys().all(|node| names.contains(node)),
                "{claim}: {loads:?}"
            );
            let most = (64 * 120_usize).div_ceil(names.len().max(1) * 100);
            assert!(
                loads.values().all(|load| *load <= most),
                "{claim}: {loads:?}"
            );
        }
        assert_eq!(
            wanted.owner(ShardId(64 * groups.len() as u32)),
            None,
            "{claim}"
        );
    }
}

#[test]
fn who_comes_into_one_group_moves_nothing_of_another() {
    let (default, before) = (weights(&["a", "b", "c"]), weights(&["d", "e"]));
    let after = weights(&["d", "e", "f"]);
    let wanted = |media| Wanted::of(64, &[default.clone(), media], &Declined::new());
    let (one, other) = (wanted(before), wanted(after));

    let differ = |shards: Range<u32>| {
        let mut shards = shards.map(ShardId);
        shards.any(|shard| one.owner(shard) != other.owner(shard))
    };

    assert!(!differ(0..64) && differ(64..128));
}

#[test]
fn shards_of_a_group_without_members_stay_where_they_are() {
    let (a, there) = (NodeId::new("a"), lives(&["a"]));
    let wanted = Wanted::of(2, &[Weights::new(), weights(&["a"])], &Declined::new());
    let mine = Some((a.clone(), Incarnation(1)));
    let rows = [mine, None, None, None];

    let moves = moves(&a, &there, &rows, &wanted);

    let expected = Moves {
        take: vec![ShardId(2), ShardId(3)],
        give_up: vec![],
    };
    assert_eq!(moves, expected);
}

/// A cluster as large as the framework is meant for.
const NODES: u32 = 1_000;
const SHARDS: u32 = 100_000;

fn many(nodes: std::ops::Range<u32>, weight: impl Fn(u32) -> u32) -> Weights {
    nodes
        .map(|number| (NodeId::new(format!("node-{number}")), weight(number)))
        .collect()
}

/// Checks that every load is at most 1.2 times what the node's weight makes even, to the next whole
/// shard; returns the shards of each node.
fn within_bound<'a>(weights: &Weights, owners: &'a [NodeId]) -> BTreeMap<&'a str, usize> {
    let total: u32 = weights.values().sum();
    let loads = loads(owners);
    assert_eq!(loads.values().sum::<usize>(), SHARDS as usize);
    for (node, load) in &loads {
        let even = f64::from(SHARDS) * f64::from(weights[&NodeId::new(node)]) / f64::from(total);
        assert!(
            *load as f64 <= (1.2 * even).ceil(),
            "{node} has {load}, even is {even}"
        );
    }
    loads
}

/// Checks that between these two, which differ by `node`, hardly more moves than it has in `with`.
fn moves_little(with: &[NodeId], without: &[NodeId], node: &str) {
    let own = with.iter().filter(|owner| owner.as_str() == node).count();
    let pairs = with.iter().zip(without);
    let moved = pairs.filter(|(one, other)| one != other).count();
    println!("{moved} shards move for the {own} of {node}");
    assert!(own > 0 && moved >= own, "{moved} of {own}");
    assert!(moved as f64 <= 1.1 * own as f64, "{moved} of {own}");
}

#[test]
fn a_thousand_nodes_share_a_hundred_thousand_shards_and_one_more_or_less_moves_its_part() {
    let computed = |weights: &Weights| -> Vec<NodeId> {
        let assignment = assign(0..SHARDS, weights, &Declined::new());
        assignment.owners().cloned().collect()
    };
    // Every tenth machine is four times as large, and some only send.
    let weight = |number: u32| match number % 10 {
        0 => 4,
        7 => 0,
        _ => 1,
    };

    let thousand = many(0..NODES, |_| 1);
    let owners = computed(&thousand);
    within_bound(&thousand, &owners);
    let more = many(0..NODES + 1, |_| 1);
    let joined = computed(&more);
    within_bound(&more, &joined);
    moves_little(&joined, &owners, "node-1000");
    let fewer = many(0..NODES - 1, |_| 1);
    let left = computed(&fewer);
    within_bound(&fewer, &left);
    moves_little(&owners, &left, "node-999");

    let weighted = many(0..NODES, weight);
    let owners = computed(&weighted);
    let loads = within_bound(&weighted, &owners);
    assert_eq!(loads.get("node-7"), None, "it only sends");
    let large: usize = (0..NODES)
        .step_by(10)
        .map(|n| loads[&*format!("node-{n}")])
        .sum();
    let part = large as f64 / f64::from(SHARDS);
    // 100 nodes of weight 4 among 800 of weight 1.
    assert!((0.31..0.36).contains(&part), "the large ones have {part}");
    let more = many(0..NODES + 1, weight);
    let joined = computed(&more);
    within_bound(&more, &joined);
    moves_little(&joined, &owners, "node-1000");
}
