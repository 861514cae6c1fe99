//! Frames survive any cut of the stream, and bytes that are none end the link.

use tokio::io::AsyncWriteExt;

use super::*;

const MAX: usize = 1024;
const SILENCE: Duration = Duration::from_secs(5);

fn frame() -> Vec<u8> {
    let mut writer = FrameWriter::default();
    writer.begin(FrameKind::Batch);
    writer.push(ItemKind::Request, 7, Duration::from_millis(1500), b"one");
    writer.push(ItemKind::Note, 0, Duration::ZERO, b"");
    writer.push(ItemKind::Answer, 8, Duration::ZERO, b"three");
    writer.finish(99).to_vec()
}

async fn read_all(mut bytes: &[u8]) -> (Vec<Frame>, LinkEnd) {
    let mut reader = FrameReader::new(&mut bytes, MAX, SILENCE);
    let mut frames = Vec::new();
    loop {
        match reader.next().await {
            Ok(frame) => frames.push(frame),
            Err(end) => return (frames, end),
        }
    }
}

fn is_garbage(end: &LinkEnd) -> bool {
    matches!(end, LinkEnd::Garbage(_))
}

#[tokio::test]
async fn a_frame_is_read_as_it_was_written() {
    let (frames, _) = read_all(&frame()).await;

    let [frame] = &frames[..] else {
        panic!("{frames:?}");
    };
    assert_eq!((frame.kind, frame.consumed), (FrameKind::Batch, 99));
    let items: Vec<_> = frame
        .items
        .iter()
        .map(|item| {
            (
                item.kind,
                item.number,
                item.within.as_millis(),
                &item.body[..],
            )
        })
        .collect();
    assert_eq!(
        items,
        [
            (ItemKind::Request, 7, 1500, &b"one"[..]),
            (ItemKind::Note, 0, 0, &b""[..]),
            (ItemKind::Answer, 8, 0, &b"three"[..]),
        ]
    );
}

#[tokio::test]
async fn a_stream_cut_anywhere_gives_the_frames_before_the_cut() {
    let bytes = [frame(), frame()].concat();
    let one = frame().len();

    for cut in 0..bytes.len() {
        let (frames, end) = read_all(&bytes[..cut]).await;

        assert_eq!(frames.len(), cut / one, "at {cut}");
        let inside = !cut.is_multiple_of(one);
        let text = end.to_string();
        assert!(matches!(end, LinkEnd::Cut(_)), "{end:?}");
        assert_eq!(text.contains("inside a frame"), inside, "at {cut}: {text}");
    }
}

#[tokio::test]
async fn a_frame_that_arrives_byte_by_byte_is_whole() {
    let (mut sender, receiver) = tokio::io::duplex(1);
    let bytes = frame();
    let sending = tokio::spawn(async move { sender.write_all(&bytes).await });

    let frame = FrameReader::new(receiver, MAX, SILENCE).next().await;

    sending.await.unwrap().unwrap();
    assert_eq!(frame.unwrap().items.len(), 3);
}

#[tokio::test]
async fn frames_that_break_a_rule_are_garbage() {
    let change = |at: usize, byte: u8| {
        let mut bytes = frame();
        bytes[at] = byte;
        bytes
    };
    let first_item = 4 + FRAME_HEAD;
    let corpus = [
        ("longer than accepted", change(2, 0xff)),
        ("far longer", change(0, 0xff)),
        ("too short to be one", vec![0, 0, 0, 1, 0]),
        ("empty", vec![0, 0, 0, 0]),
        ("of an unknown kind", change(4, 3)),
        ("leaving with envelopes", change(4, 1)),
        ("an unknown envelope", change(first_item, 9)),
        (
            "an envelope that goes on after its frame",
            change(first_item + 16, 200),
        ),
        ("an envelope whose head is cut", change(first_item + 16, 4)),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
    ];

    for (what, bytes) in corpus {
        let (frames, end) = read_all(&bytes).await;

        assert!(frames.is_empty() && is_garbage(&end), "{what}: {end:?}");
    }
}

#[tokio::test]
async fn no_random_bytes_make_the_reader_panic_or_hang() {
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = if seed % 2 == 0 { frame() } else { Vec::new() };
        let more = random.usize(..64);
        bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(more));
        let at = random.usize(..bytes.len().max(1));
        if let Some(byte) = bytes.get_mut(at) {
            *byte = random.u8(..);
        }

        // A frame longer than what follows, or garbage: the stream has an end, so it ends.
        read_all(&bytes).await;
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_link_and_any_byte_is_a_sign_of_life() {
    let (mut sender, receiver) = tokio::io::duplex(64);
    let mut reader = FrameReader::new(receiver, MAX, SILENCE);
    let began = actor_core::clock::Clock.now();
    let sending = tokio::spawn(async move {
        // The clock is paused and jumps on when nothing else can happen.
        tokio::time::advance(Duration::from_secs(4)).await;
        sender.write_all(&[0]).await.unwrap();
        sender
    });

    let end = reader.next().await;

    assert_eq!(end, Err(LinkEnd::Silence));
    assert_eq!(began.elapsed().as_secs(), 9);
    drop(sending.await.unwrap());
}

#[test]
fn a_large_frame_gives_its_memory_back() {
    let mut writer = FrameWriter::default();
    writer.begin(FrameKind::Batch);
    writer.push(ItemKind::Note, 0, Duration::ZERO, &vec![0; 1 << 20]);
    writer.finish(0);

    writer.trim(1 << 16);

    assert_eq!(writer.bytes.capacity(), 0);
}
