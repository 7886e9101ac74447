//! The gate between a publisher and the embedded broker: holds back each PUBACK until the journal has its message.
//!
//! The broker library acknowledges as soon as its handler returns. Waiting there for the disk would allow one message per
//! commit. So the handler hands the message to the journal and returns, the library writes its PUBACK at once, and this
//! stream keeps it until the journal says that the message is durable. Nothing else is held back. On the way in it notes
//! what the library does not tell (`scan.rs`): which messages are marked as sent before, and what is in a packet that is
//! larger than the broker takes, before the library ends the connection over it.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::{Buf as _, BytesMut};
use mqtt5::broker::transport::WebSocketTransport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    ingest::Acknowledge,
    scan::{Scan, TooLarge},
};

/// Bytes that may wait for the client to read; beyond it the broker is told to wait.
const UNSENT_LEN_MAX: usize = 256 << 10;
/// Packet ids noted as sent before; a client has at most 65,535 in flight.
const DUPS_MAX: usize = 65_536;

const PUBACK: u8 = 4;
const PUBREC: u8 = 5;

/// What the gate of one connection and its event handler share.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Messages of this connection given to the journal, and how many of them are durable.
    given: AtomicU64,
    durable: AtomicU64,
    waker: Mutex<Option<Waker>>,
    dups: Mutex<VecDeque<u16>>,
    client: Mutex<Option<Arc<str>>>,
}

impl Held {
    /// Notes the client's id, once it has said it.
    pub(super) fn is_of(&self, client: Arc<str>) {
        *lock(&self.client) = Some(client);
    }

    /// The client's id; empty while it has not said it.
    pub(super) fn client(&self) -> Arc<str> {
        lock(&self.client).clone().unwrap_or_default()
    }

    /// Counts a message that goes to the journal; its ticket.
    pub(super) fn give(&self) -> u64 {
        self.given.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Whether the message under this packet id was marked as sent before; asked once.
    pub(super) fn was_sent_before(&self, packet_id: u16) -> bool {
        let mut dups = lock(&self.dups);
        match dups.iter().position(|dup| *dup == packet_id) {
            Some(place) => dups.remove(place).is_some(),
            None => false,
        }
    }
}

impl Acknowledge for Held {
    fn taken(&self, tickets: &[u64]) {
        let Some(last) = tickets.iter().max() else { return };
        self.durable.fetch_max(*last, Ordering::AcqRel);
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no one panicked while holding the gate")
}

/// A connection's stream with the gate in it.
pub(super) struct Gate<S> {
    stream: S,
    peer: SocketAddr,
    held: Arc<Held>,
    /// Acknowledgements in order, each with the ticket that must be durable first.
    waiting: VecDeque<(u64, BytesMut)>,
    unsent: BytesMut,
    /// Bytes of a packet that was not written whole.
    passing: usize,
    scan: Scan,
    /// What came in and is not handed on before the packet that is too large has been looked at.
    unread: BytesMut,
    refuse: Refuse,
}

/// Told of a packet that is too large, right before the connection ends over it.
pub(super) type Refuse = Box<dyn Fn(TooLarge) + Send + Sync>;

impl<S> Gate<S> {
    pub(super) fn new(stream: S, peer: SocketAddr, held: Arc<Held>, packet_len_max: usize, refuse: Refuse) -> Self {
        let (waiting, unsent, unread) = (VecDeque::new(), BytesMut::new(), BytesMut::new());
        Self { stream, peer, held, waiting, unsent, passing: 0, scan: Scan::new(packet_len_max), unread, refuse }
    }

    /// Sorts what the broker writes: acknowledgements wait, all else may go.
    fn sort(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (length, kind) = match frame(bytes) {
                _ if self.passing > 0 => (self.passing.min(bytes.len()), 0),
                Some(length) if length <= bytes.len() => (length, bytes[0] >> 4),
                // The library writes whole packets; should it ever not, the parts still go out in order.
                Some(length) => {
                    self.passing = length;
                    continue;
                }
                None => (bytes.len(), 0),
            };
            self.passing = self.passing.saturating_sub(length);
            let (packet, rest) = bytes.split_at(length);
            if kind == PUBACK || kind == PUBREC {
                self.waiting.push_back((self.held.given.load(Ordering::Acquire), packet.into()));
            } else {
                self.unsent.extend_from_slice(packet);
            }
            bytes = rest;
        }
    }

    fn release(&mut self) {
        let durable = self.held.durable.load(Ordering::Acquire);
        while let Some((ticket, packet)) = self.waiting.pop_front() {
            if ticket > durable {
                self.waiting.push_front((ticket, packet));
                break;
            }
            self.unsent.extend_from_slice(&packet);
        }
    }
}

impl<S: AsyncWrite + Unpin> Gate<S> {
    /// Sends what may go. Ready when nothing is left that may go now.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.waiting.is_empty() {
            // First the waker, then the look: a commit between the two would otherwise wake no one.
            *lock(&self.held.waker) = Some(cx.waker().clone());
            self.release();
        }
        while !self.unsent.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.unsent) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.unsent.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        if let Poll::Ready(Err(error)) = gate.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        if gate.unread.is_empty() {
            let before = buf.filled().len();
            let read = Pin::new(&mut gate.stream).poll_read(cx, buf);
            if !matches!(read, Poll::Ready(Ok(()))) {
                return read;
            }
            gate.note(before, buf);
            if !gate.scan.is_refusing() {
                return read;
            }
            gate.unread.extend_from_slice(&buf.filled()[before..]);
            buf.set_filled(before);
        }
        if gate.poll_beginning(cx).is_pending() {
            return Poll::Pending;
        }
        let length = gate.unread.len().min(buf.remaining());
        buf.put_slice(&gate.unread.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S> Gate<S> {
    /// Looks at what came in since the buffer's place `before`.
    fn note(&mut self, before: usize, buf: &ReadBuf<'_>) {
        let held = &self.held;
        self.scan.read(&buf.filled()[before..], |packet_id| {
            let mut dups = lock(&held.dups);
            if dups.len() >= DUPS_MAX {
                dups.pop_front();
            }
            dups.push_back(packet_id);
        });
    }
}

impl<S: AsyncRead + Unpin> Gate<S> {
    /// Reads the beginning of a packet that is too large, and tells of it once.
    fn poll_beginning(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 1_024];
        while self.scan.wants_more() {
            let mut more = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut more) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !more.filled().is_empty() => self.note(0, &more),
                // It ended or failed on the way: what is known is told.
                Poll::Ready(_) => break,
            }
        }
        if let Some(packet) = self.scan.refused() {
            (self.refuse)(packet);
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        if gate.unsent.len() > UNSENT_LEN_MAX {
            match gate.poll_send(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        gate.sort(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        match gate.poll_send(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => Pin::new(&mut gate.stream).poll_shutdown(cx),
        }
    }
}

/// The library takes any stream under this name.
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> WebSocketTransport for Gate<S> {
    fn peer_addr(&self) -> mqtt5::Result<SocketAddr> {
        Ok(self.peer)
    }
}

/// The length of the packet that begins here (MQTT 5.0, 2.1); `None` if its header is not whole.
fn frame(bytes: &[u8]) -> Option<usize> {
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(length + index + 2);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn an_acknowledgement_waits_for_the_journal_and_all_else_passes() {
        let (mut client, server) = tokio::io::duplex(1_000);
        let held = Arc::new(Held::default());
        let mut gate =
            Gate::new(server, SocketAddr::from(([127, 0, 0, 1], 1)), Arc::clone(&held), 1 << 20, Box::new(|_| {}));
        let ticket = held.give();
        let (puback, pong, later) = ([0x40, 2, 0, 1], [0xd0, 0], [0x40, 2, 0, 2]);
        gate.write_all(&puback).await.expect("written");
        let second = held.give();
        gate.write_all(&later).await.expect("written");
        gate.write_all(&pong).await.expect("written");
        gate.flush().await.expect("flushed");
        let mut got = [0; 2];
        client.read_exact(&mut got).await.expect("read");
        assert_eq!(got, pong, "only the answer to a ping has come");
        // A task that only reads sends the acknowledgement when the journal says so.
        let reader = tokio::spawn(async move {
            let mut byte = [0];
            gate.read_exact(&mut byte).await.expect("read");
            gate
        });
        held.taken(&[ticket]);
        let mut got = [0; 4];
        client.read_exact(&mut got).await.expect("read");
        assert_eq!(got, puback);
        held.taken(&[second]);
        client.read_exact(&mut got).await.expect("read");
        assert_eq!(got, later);
        client.write_all(&[1]).await.expect("written");
        assert!(reader.await.is_ok());
    }
}
