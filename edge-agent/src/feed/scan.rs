//! What the bytes of a connection tell that the broker library does not: packet ids of messages that are marked as sent
//! before, and topic, size and beginning of a packet that is larger than the broker takes. It changes no byte.

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;

/// How much of a packet that is too large is looked at beyond its topic: its id, its properties, and as much of its payload
/// as quarantine keeps.
const BEGINNING_LEN: usize = 3 << 10;

/// What a connection's bytes tell, in whatever pieces they come.
#[derive(Debug)]
pub(super) struct Scan {
    step: Step,
    packet_len_max: usize,
    /// Whether the client speaks MQTT 5, whose messages have properties.
    properties: bool,
    large: Option<Large>,
}

/// A packet that is larger than the broker takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    /// `None` when it is no message, or ended before its topic did.
    pub topic: Option<String>,
    /// Of the whole packet.
    pub bytes: usize,
    /// The beginning of the payload.
    pub payload: Vec<u8>,
}

/// A packet that is too large, on its way in.
#[derive(Debug)]
struct Large {
    header: u8,
    /// Of all that follows the packet's header.
    length: usize,
    header_len: usize,
    /// The beginning of what follows the header.
    beginning: Vec<u8>,
    told: bool,
}

impl Large {
    /// How much of the packet is looked at: the topic and the beginning of the payload, nothing of what is no message.
    fn wanted(&self) -> usize {
        if self.header >> 4 != PUBLISH {
            return 0;
        }
        let topic = self.beginning.first_chunk().map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
        self.length.min(2 + topic + BEGINNING_LEN)
    }

    fn told(&self, properties: bool) -> TooLarge {
        let bytes = self.header_len + self.length;
        let message = || {
            let (length, rest) = self.beginning.split_first_chunk()?;
            let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            let topic = String::from_utf8(topic.to_vec()).ok()?;
            let rest = if self.header & 0b0110 == 0 { rest } else { rest.get(2..)? };
            Some((topic, if properties { without_properties(rest)? } else { rest }))
        };
        match message() {
            Some((topic, payload)) => TooLarge { topic: Some(topic), bytes, payload: payload.to_vec() },
            None => TooLarge { topic: None, bytes, payload: Vec::new() },
        }
    }
}

/// What follows the properties (MQTT 5.0, 2.2.2).
fn without_properties(bytes: &[u8]) -> Option<&[u8]> {
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes.get(index + 1 + length..);
        }
    }
    None
}

#[derive(Debug, Default, Clone, Copy)]
enum Step {
    #[default]
    Header,
    Length {
        header: u8,
        length: usize,
        shift: u32,
    },
    TopicLength {
        left: usize,
        high: Option<u8>,
    },
    Topic {
        left: usize,
        topic: usize,
    },
    PacketId {
        left: usize,
        high: Option<u8>,
    },
    /// In a CONNECT, before the protocol's level: the seventh byte after the header (3.1.2).
    Level {
        left: usize,
        before: usize,
    },
    Skip {
        left: usize,
    },
    /// In a packet that is too large: nothing after it counts.
    Large,
}

impl Scan {
    pub(super) fn new(packet_len_max: usize) -> Self {
        Self { step: Step::default(), packet_len_max, properties: false, large: None }
    }

    /// Whether a packet that is too large has come.
    pub(super) fn is_refusing(&self) -> bool {
        self.large.is_some()
    }

    /// Whether more of that packet would tell more.
    pub(super) fn wants_more(&self) -> bool {
        self.large.as_ref().is_some_and(|large| large.beginning.len() < large.wanted())
    }

    /// The packet that is too large, told once.
    pub(super) fn refused(&mut self) -> Option<TooLarge> {
        let large = self.large.as_mut()?;
        if std::mem::replace(&mut large.told, true) { None } else { Some(large.told(self.properties)) }
    }

    /// Takes the next bytes; `duplicate` gets the packet id of each message that is marked as sent before.
    pub(super) fn read(&mut self, mut bytes: &[u8], mut duplicate: impl FnMut(u16)) {
        while let Some((&byte, rest)) = bytes.split_first() {
            self.step = match self.step {
                Step::Skip { left } => {
                    let taken = left.min(bytes.len());
                    bytes = &bytes[taken..];
                    self.step = Step::Skip { left: left - taken }.settled();
                    continue;
                }
                Step::Topic { left, topic } => {
                    let taken = topic.min(bytes.len()).min(left);
                    bytes = &bytes[taken..];
                    let (left, topic) = (left - taken, topic - taken);
                    self.step =
                        if topic == 0 { Step::PacketId { left, high: None } } else { Step::Topic { left, topic } }
                            .settled();
                    continue;
                }
                Step::Large => {
                    let Some(large) = &mut self.large else { return };
                    // Byte by byte up to the topic's length, which says how much is wanted.
                    if large.beginning.len() >= large.wanted() {
                        return;
                    }
                    large.beginning.push(byte);
                    bytes = rest;
                    continue;
                }
                Step::Level { left, before } if before > 0 => {
                    Step::Level { left: left - 1, before: before - 1 }.settled()
                }
                Step::Level { left, .. } => {
                    self.properties = byte >= 5;
                    Step::Skip { left: left - 1 }.settled()
                }
                Step::Header => Step::Length { header: byte, length: 0, shift: 0 },
                Step::Length { header, length, shift } => {
                    let length = length | usize::from(byte & 0x7f) << shift;
                    if byte & 0x80 != 0 && shift < 21 {
                        Step::Length { header, length, shift: shift + 7 }
                    } else if length + shift as usize / 7 + 2 > self.packet_len_max {
                        let header_len = shift as usize / 7 + 2;
                        self.large = Some(Large { header, length, header_len, beginning: Vec::new(), told: false });
                        Step::Large
                    } else if header >> 4 == CONNECT {
                        Step::Level { left: length, before: 6 }.settled()
                    } else if header >> 4 == PUBLISH && header & 0b1000 != 0 && header & 0b0110 != 0 {
                        Step::TopicLength { left: length, high: None }.settled()
                    } else {
                        Step::Skip { left: length }.settled()
                    }
                }
                Step::TopicLength { left, high: None } => {
                    Step::TopicLength { left: left - 1, high: Some(byte) }.settled()
                }
                Step::TopicLength { left, high: Some(high) } => {
                    let topic = usize::from(u16::from_be_bytes([high, byte]));
                    let left = left - 1;
                    if topic == 0 { Step::PacketId { left, high: None } } else { Step::Topic { left, topic } }.settled()
                }
                Step::PacketId { left, high: None } => Step::PacketId { left: left - 1, high: Some(byte) }.settled(),
                Step::PacketId { left, high: Some(high) } => {
                    duplicate(u16::from_be_bytes([high, byte]));
                    Step::Skip { left: left - 1 }.settled()
                }
            };
            bytes = rest;
        }
    }
}

impl Step {
    /// A packet of which nothing is left is over.
    const fn settled(self) -> Self {
        match self {
            Self::Skip { left: 0 }
            | Self::Level { left: 0, .. }
            | Self::TopicLength { left: 0, .. }
            | Self::Topic { left: 0, .. }
            | Self::PacketId { left: 0, .. } => Self::Header,
            step => step,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn publish(topic: &str, packet_id: u16, dup: bool, payload: &[u8]) -> Vec<u8> {
        let mut body = u16::try_from(topic.len()).expect("short").to_be_bytes().to_vec();
        body.extend(topic.as_bytes());
        body.extend(packet_id.to_be_bytes());
        body.push(0);
        body.extend(payload);
        let mut packet = vec![if dup { 0b0011_1010 } else { 0b0011_0010 }];
        let mut length = body.len();
        while length > 127 {
            packet.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
            length >>= 7;
        }
        packet.push(u8::try_from(length).expect("seven bits"));
        packet.extend(body);
        packet
    }

    proptest! {
        #[test]
        fn duplicates_are_found_however_the_bytes_are_cut(
            packets in proptest::collection::vec((any::<u16>(), any::<bool>(), 0_usize..300), 1..20),
            cuts in proptest::collection::vec(1_usize..90, 1..200),
        ) {
            let stream: Vec<u8> = packets
                .iter()
                .flat_map(|(packet_id, dup, length)| {
                    let mut bytes = publish("plant/press-1", *packet_id, *dup, &vec![b'x'; *length]);
                    bytes.extend([0xc0, 0]);
                    bytes
                })
                .collect();
            let (mut scan, mut found, mut rest) = (Scan::new(1 << 20), Vec::new(), &stream[..]);
            for cut in cuts.iter().cycle() {
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                scan.read(head, |packet_id| found.push(packet_id));
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            let marked: Vec<u16> = packets.iter().filter(|(_, dup, _)| *dup).map(|(packet_id, _, _)| *packet_id).collect();
            prop_assert_eq!(found, marked);
        }
    }

    /// A CONNECT of this protocol level (MQTT 5.0, 3.1).
    fn connect(level: u8) -> Vec<u8> {
        vec![0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 60, 0, 1, b'c']
    }

    #[test]
    fn a_packet_that_is_too_large_says_its_topic_and_how_it_begins_however_the_bytes_are_cut() {
        for cut in [1, 7, 4_096] {
            let mut scan = Scan::new(100);
            let mut large = publish("plant/a", 9, false, &[b'x'; 5_000]);
            let bytes = large.len();
            large.splice(0..0, connect(5));
            for piece in large.chunks(cut) {
                scan.read(piece, |_| {});
            }
            assert!(scan.is_refusing() && !scan.wants_more());
            let told = scan.refused().expect("a packet");
            assert_eq!((told.topic.as_deref(), told.bytes), (Some("plant/a"), bytes));
            assert!(told.payload.len() >= 2 << 10 && told.payload.iter().all(|&b| b == b'x'), "no id, no properties");
            assert_eq!(scan.refused(), None, "told once");
        }
    }

    #[test]
    fn what_is_no_message_or_ends_early_is_told_without_a_topic() {
        let mut scan = Scan::new(100);
        scan.read(&connect(4), |_| {});
        scan.read(&[0x82, 0xff, 0x7f, 0, 1], |_| {});
        assert_eq!(scan.refused(), Some(TooLarge { topic: None, bytes: 16_386, payload: Vec::new() }));
        let mut scan = Scan::new(100);
        scan.read(&[0x32, 0xff, 0x7f, 0, 9, b'p'], |_| {});
        assert!(scan.wants_more());
        assert_eq!(scan.refused().expect("a packet").topic, None);
    }
}
