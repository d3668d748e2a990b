//! The kinds of entries by number, and what they are called.

/// See [`super`].
pub const DECLARE: u8 = 1;
/// See [`super`].
pub const DELETE: u8 = 2;
/// See [`super`].
pub const PUBLISH: u8 = 3;
/// See [`super`].
pub const TAKE: u8 = 4;
/// See [`super`].
pub const DONE: u8 = 5;
/// See [`super`].
pub const RETURN: u8 = 6;
/// See [`super`].
pub const DYING: u8 = 7;
/// See [`super`].
pub const EXTEND: u8 = 8;
/// See [`super`].
pub const SOURCE: u8 = 9;
/// See [`super`].
pub const SEEK: u8 = 10;
/// See [`super`].
pub const TRIM: u8 = 11;
/// See [`super`].
pub const SETTLED: u8 = 12;
/// See [`super`].
pub const COUNT: u8 = 13;
/// See [`super`].
pub const BIND: u8 = 14;
/// See [`super`].
pub const UNBIND: u8 = 15;
/// See [`super`].
pub const DOCUMENT: u8 = 16;
/// See [`super`].
pub const FAILED: u8 = 17;
/// See [`super`].
pub const MOMENT: u8 = 18;
/// See [`super`].
pub const CLIENT: u8 = 19;
/// See [`super`].
pub const HAND: u8 = 20;
/// See [`super`].
pub const TENANT: u8 = 21;
/// See [`super`].
pub const UNROUTED: u8 = 22;

/// What a kind is called where people read it; none for one of a later version.
pub fn kind_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        DECLARE => "declare",
        DELETE => "delete",
        PUBLISH => "publish",
        TAKE => "take",
        DONE => "done",
        RETURN => "return",
        DYING => "dying",
        EXTEND => "extend",
        SOURCE => "source",
        SEEK => "seek",
        TRIM => "trim",
        SETTLED => "settled",
        COUNT => "count",
        BIND => "bind",
        UNBIND => "unbind",
        DOCUMENT => "document",
        FAILED => "failed",
        MOMENT => "moment",
        CLIENT => "client",
        HAND => "hand",
        TENANT => "tenant",
        UNROUTED => "unrouted",
        _ => return None,
    })
}
