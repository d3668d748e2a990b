//! Pages of the index of calls: any bytes give a page or an error; what was read is written as the same page.

use waystation_base::{MessageId, Millis};
use waystation_calls::{
    CallId, Held, Key, State,
    page::{Line, Page, Span},
};

use crate::Target;

pub const TARGET: Target = Target { name: "call-page", seeds, run };

fn id(random: u128) -> CallId {
    CallId(MessageId::new(Millis(1_024_000), random << 64))
}

fn line(random: u128) -> Line {
    Line {
        id: id(random),
        offset: waystation_base::Offset(300),
        request: Some(waystation_base::Offset(7)),
        due: Millis(1_700_000_000_000),
        held: Some(Held { tag: waystation_base::Tag(9), attempt: waystation_base::Attempt(1) }),
        name: 0,
        version: 3,
        attempt: 1,
        state: State::Working,
        is_retried: true,
        key: Some(Key { scope: u128::MAX, request: 5 }),
        correlation: Some(7),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let names: Vec<_> = waystation_base::Name::new("op").into_iter().collect();
    let plain =
        Line { request: None, held: None, is_retried: false, key: None, correlation: None, ..line(3) };
    [
        Page::default(),
        Page { gone: vec![id(1), id(2)], ..Page::default() },
        Page { names, gone: vec![id(1)], calls: vec![line(2), plain] },
    ]
    .iter()
    .map(Page::write)
    .collect()
}

fn run(data: &[u8]) -> bool {
    let span = Span::of(id(0));
    let Ok(page) = Page::read(span, data) else { return false };
    // A number may have been longer than it need be: bytes may differ, what they say may not.
    assert_eq!(Page::read(span, &page.write()), Ok(page));
    true
}
