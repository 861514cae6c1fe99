//! Who is there: both sides prove that they know the cluster's secret, and who they are.
//!
//! The dialler says hello, the acceptor answers, then each sends a MAC over both hellos, a label
//! for its direction, and what TLS says of the channel. Both hellos hold fresh random bytes, so a
//! recorded proof is worth nothing; the acceptor proves nothing to whoever did not prove itself.
//! Not here: time limits and sockets.

use std::{io, ops::RangeInclusive};

use actor_core::codec::{decode_row, encode_row};
use bincode::{Decode, Encode};
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{DialFailure, PeerId};
use crate::node::Secret;

/// Opens every message of the handshake, so that a stranger is noticed at its first bytes.
const MAGIC: [u8; 4] = *b"ALK1";

/// The longest message of the handshake, in bytes.
const MESSAGE_BYTES_MAX: usize = 2048;

/// Length of a proof.
const TAG_BYTES: usize = 32;

/// Separates this use of the secret from any other.
const KEY_LABEL: &[u8] = b"actor node links, version 1";

/// The key that proofs are made with.
#[derive(Clone)]
pub(super) struct Key(hmac::Key);

impl Key {
    pub(super) fn new(secret: &Secret) -> Self {
        let outer = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let derived = hmac::sign(&outer, KEY_LABEL);
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// What one side says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) formats: RangeInclusive<u16>,
    /// How many bytes of requests it lets the other have under way.
    pub(super) window_bytes: u64,
    /// The largest frame it reads.
    pub(super) frame_bytes_max: u32,
}

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    /// Who is on the other side.
    pub(super) peer: PeerId,
    pub(super) format: u16,
    /// What the other side said of itself.
    pub(super) window_bytes: u64,
    pub(super) frame_bytes_max: u32,
}

/// Why somebody dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Purpose {
    /// To send requests.
    Link,
    /// To learn who answers.
    Probe,
}

/// What the acceptor says in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Verdict {
    Welcome,
    /// The dialler wants another node, or another life of this one.
    NotMe,
    /// There is no format that both speak.
    Format,
    /// This node takes no more links.
    Leaving,
    /// The dialler's proof is wrong. Carries no proof itself.
    Stranger,
}

#[derive(Debug, PartialEq, Eq, Encode, Decode)]
struct Hello {
    purpose: Purpose,
    node: String,
    incarnation: u64,
    /// Whom the dialler wants; of the acceptor's hello, itself.
    to_node: String,
    to_incarnation: u64,
    nonce: [u8; 32],
    format_min: u16,
    format_max: u16,
    window_bytes: u64,
    frame_bytes_max: u32,
}

#[derive(Debug, PartialEq, Eq, Encode, Decode)]
struct Proof {
    tag: [u8; TAG_BYTES],
}

#[derive(Debug, PartialEq, Eq, Encode, Decode)]
struct Decision {
    verdict: Verdict,
    tag: [u8; TAG_BYTES],
}

/// Why an arrival did not become a link.
#[derive(Debug)]
pub(super) enum Rejected {
    /// It left before it said anything, as probes of load balancers do.
    Silent,
    /// It did not speak the protocol.
    Garbage(String),
    /// Its proof is wrong.
    Stranger(PeerId),
    /// It was told why.
    Told(PeerId, Verdict),
}

/// Both hellos as they crossed the wire, and the channel they crossed.
struct Transcript<'a> {
    key: &'a Key,
    dialler: &'a [u8],
    acceptor: &'a [u8],
    binding: &'a [u8],
}

impl Transcript<'_> {
    fn mac(&self, label: &[u8], parts: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        for part in [label, self.dialler, self.acceptor, self.binding, parts] {
            // With its length, so that no two lists of parts read alike.
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        }
        text
    }

    fn sign(&self, label: &[u8], parts: &[u8]) -> [u8; TAG_BYTES] {
        let tag = hmac::sign(&self.key.0, &self.mac(label, parts));
        tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Compares in constant time.
    fn verify(&self, label: &[u8], parts: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.key.0, &self.mac(label, parts), tag).is_ok()
    }
}

const DIALLER: &[u8] = b"dialler";
const ACCEPTOR: &[u8] = b"acceptor";

/// Plays the dialler's part on a fresh connection.
pub(super) async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    binding: &[u8],
    key: &Key,
    me: &PeerId,
    to: &PeerId,
    purpose: Purpose,
    terms: &Terms,
) -> Result<Agreed, DialFailure> {
    let ours = encode_row(&hello(me, to, purpose, terms));
    send(stream, &ours).await.map_err(|error| lost(&error))?;
    let theirs = receive(stream).await.map_err(garbage)?;
    let hello: Hello = decode_row(&theirs).map_err(|error| garbage(error.to_string()))?;
    let transcript = Transcript {
        key,
        dialler: &ours,
        acceptor: &theirs,
        binding,
    };
    let tag = transcript.sign(DIALLER, &[]);
    send(stream, &encode_row(&Proof { tag }))
        .await
        .map_err(|error| lost(&error))?;
    let decision = receive(stream).await.map_err(garbage)?;
    let Decision { verdict, tag } =
        decode_row(&decision).map_err(|error| garbage(error.to_string()))?;
    if !transcript.verify(ACCEPTOR, &encode_row(&verdict), &tag) {
        return Err(DialFailure::Unauthenticated);
    }
    // From here on it is certain who answered.
    let peer = PeerId::new(&hello.node, hello.incarnation);
    if &peer != to {
        return Err(DialFailure::Other(peer));
    }
    let format = shared_format(&terms.formats, &(hello.format_min..=hello.format_max));
    match (verdict, format) {
        (Verdict::Leaving, _) => Err(DialFailure::Leaving),
        (Verdict::Welcome, Some(format)) => Ok(Agreed {
            peer,
            format,
            window_bytes: hello.window_bytes,
            frame_bytes_max: hello.frame_bytes_max,
        }),
        (Verdict::NotMe, _) => Err(garbage("it denies to be who it says it is".into())),
        _ => Err(DialFailure::Format {
            theirs: (hello.format_min, hello.format_max),
        }),
    }
}

/// Plays the acceptor's part; `who` says who this node is and whether it takes links.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    binding: &[u8],
    key: &Key,
    who: impl Fn() -> (PeerId, bool),
    terms: &Terms,
) -> Result<(Agreed, Purpose), Rejected> {
    let theirs = match receive(stream).await {
        Ok(message) => message,
        Err(why) if why.is_empty() => return Err(Rejected::Silent),
        Err(why) => return Err(Rejected::Garbage(why)),
    };
    let unread = |error: actor_core::codec::CodecError| Rejected::Garbage(error.to_string());
    let cut = |error: io::Error| Rejected::Garbage(error.to_string());
    let hello: Hello = decode_row(&theirs).map_err(unread)?;
    let (me, open) = who();
    let ours = encode_row(&self::hello(&me, &me, hello.purpose, terms));
    send(stream, &ours).await.map_err(cut)?;
    let proof = receive(stream).await.map_err(Rejected::Garbage)?;
    let Proof { tag } = decode_row(&proof).map_err(unread)?;
    let transcript = Transcript {
        key,
        dialler: &theirs,
        acceptor: &ours,
        binding,
    };
    let peer = PeerId::new(&hello.node, hello.incarnation);
    if !transcript.verify(DIALLER, &[], &tag) {
        let (verdict, tag) = (Verdict::Stranger, [0; TAG_BYTES]);
        let decision = encode_row(&Decision { verdict, tag });
        send(stream, &decision).await.map_err(cut)?;
        return Err(Rejected::Stranger(peer));
    }
    let format = shared_format(&terms.formats, &(hello.format_min..=hello.format_max));
    let wanted = PeerId::new(&hello.to_node, hello.to_incarnation);
    let verdict = match format {
        _ if wanted != me => Verdict::NotMe,
        None => Verdict::Format,
        Some(_) if !open && hello.purpose == Purpose::Link => Verdict::Leaving,
        Some(_) => Verdict::Welcome,
    };
    let tag = transcript.sign(ACCEPTOR, &encode_row(&verdict));
    let decision = encode_row(&Decision { verdict, tag });
    send(stream, &decision).await.map_err(cut)?;
    match (verdict, format) {
        (Verdict::Welcome, Some(format)) => {
            let agreed = Agreed {
                peer,
                format,
                window_bytes: hello.window_bytes,
                frame_bytes_max: hello.frame_bytes_max,
            };
            Ok((agreed, hello.purpose))
        }
        _ => Err(Rejected::Told(peer, verdict)),
    }
}

/// Returns the newest format both speak: the lower of both newest ones.
pub(super) fn shared_format(a: &RangeInclusive<u16>, b: &RangeInclusive<u16>) -> Option<u16> {
    let newest = *a.end().min(b.end());
    (newest >= *a.start() && newest >= *b.start()).then_some(newest)
}

fn hello(me: &PeerId, to: &PeerId, purpose: Purpose, terms: &Terms) -> Hello {
    let mut nonce = [0; 32];
    SystemRandom::new()
        .fill(&mut nonce)
        .expect("the system gives random bytes");
    Hello {
        purpose,
        node: me.node.as_str().to_owned(),
        incarnation: me.incarnation.0,
        to_node: to.node.as_str().to_owned(),
        to_incarnation: to.incarnation.0,
        nonce,
        format_min: *terms.formats.start(),
        format_max: *terms.formats.end(),
        window_bytes: terms.window_bytes,
        frame_bytes_max: terms.frame_bytes_max,
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(message);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Reads one message; the error is empty if the stream ended before its first byte.
async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, String> {
    let mut head = [0; MAGIC.len() + 2];
    let mut filled = 0;
    while filled < head.len() {
        match stream.read(&mut head[filled..]).await {
            Ok(0) if filled == 0 => return Err(String::new()),
            Ok(0) => return Err("the connection ended inside a message".into()),
            Ok(read) => filled += read,
            Err(error) => return Err(error.to_string()),
        }
        // A stranger's first bytes are enough, however few they are.
        let known = filled.min(MAGIC.len());
        if head[..known] != MAGIC[..known] {
            return Err("the first bytes are not ours".into());
        }
    }
    let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
    if length > MESSAGE_BYTES_MAX {
        return Err(format!("a message of {length} bytes"));
    }
    let mut message = vec![0; length];
    let read = stream.read_exact(&mut message).await;
    read.map_err(|error| error.to_string())?;
    Ok(message)
}

fn garbage(why: String) -> DialFailure {
    if why.is_empty() {
        return DialFailure::Garbage("it hung up".into());
    }
    DialFailure::Garbage(why.into())
}

fn lost(error: &io::Error) -> DialFailure {
    DialFailure::Unreachable(error.to_string().into())
}

#[cfg(test)]
mod tests;
