//! Bytes that were valid once: what disks and strangers hand to readers.

use actor_core::clock::Rng;

/// Bytes that mean something to JSON, MessagePack or bincode: marks, lengths, the largest numbers.
const MEANINGFUL: &[u8] = b"{}[]\",:\\0-\x00\x80\x90\xa0\xc0\xc1\xcf\xd9\xdd\xdf\xfb\xfd\xff";

/// Returns `valid` with one to three bytes changed, inserted or removed, or cut short.
pub fn spoiled(rng: &Rng, valid: &[u8]) -> Vec<u8> {
    let below = |bound: usize| rng.below(bound as u64) as usize;
    let mut bytes = valid.to_vec();
    for _ in 0..=below(3) {
        let at = below(bytes.len() + 1);
        let new = match below(2) {
            0 => rng.bits() as u8,
            _ => MEANINGFUL[below(MEANINGFUL.len())],
        };
        match below(4) {
            0 => bytes.insert(at, new),
            1 if below(4) == 0 => bytes.truncate(at),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            _ if at < bytes.len() => bytes[at] = new,
            _ => {}
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_what_is_spoiled_differs_and_one_seed_gives_one_corpus() {
        let draw = |seed| {
            let rng = Rng::seeded(seed);
            let corpus = (0..1000).map(|_| spoiled(&rng, b"{\"amount\":5}"));
            corpus.collect::<Vec<_>>()
        };

        let different = draw(1)
            .iter()
            .filter(|bytes| **bytes != b"{\"amount\":5}")
            .count();

        assert!(different > 800, "{different}");
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
