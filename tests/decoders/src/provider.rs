//! What a model provider streams.

use crate::pieces;
use crate::sse::{Event, MAX_EVENT, MAX_LINE, Reader, SseError};

/// In pieces of which length, the body.
pub(crate) fn events(data: &[u8]) {
    let Some((length, body)) = data.split_first() else { return };
    let whole = read([body]);
    assert_eq!(read(pieces(body, *length)), whole, "it depends on how the bytes are cut");
    for event in whole.0 {
        assert!(event.data.len() <= MAX_EVENT && event.kind.len() <= MAX_LINE);
    }
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Result<(), SseError>) {
    let mut reader = Reader::new();
    let ended = pieces.into_iter().try_for_each(|piece| reader.push(piece));
    (std::iter::from_fn(|| reader.pop()).collect(), ended)
}

pub(crate) fn event_seeds() -> Vec<Vec<u8>> {
    let bodies = [
        "\u{feff}: a comment\r\ndata: {\"a\":1}\r\n\r\nevent: delta\rdata:x\rdata: y\r\r: ping\n\n",
        "id: 7\nretry: 10\nunknown\ndata:  two spaces\n\ndata\n\nevent: nothing\r\n\ndata: h\u{e9}llo\n\ndata: lost",
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}\n\ndata: [DONE]\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ];
    bodies.iter().map(|body| [&[3], body.as_bytes()].concat()).collect()
}
