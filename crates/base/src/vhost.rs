//! How do a virtual host and a name in it make one name of Waystation's, and how are they told apart again?
//!
//! The default virtual host `/` has the plain names, another one `v` the names `v::…`. What a [`crate::Name`] cannot hold is
//! percent-escaped byte by byte, so that any text has exactly one name and comes back as it was.

/// The virtual host whose names stand alone.
pub const DEFAULT: &str = "/";
/// Parts a virtual host from a name.
const MARK: &str = "::";

/// The name of `name` in the virtual host.
pub fn join(vhost: &str, name: &str) -> String {
    let name = escape(name);
    if vhost == DEFAULT { name } else { format!("{}{MARK}{name}", escape(vhost).replace(':', "%3A")) }
}

/// Virtual host and name of what [`join`] made. A name that it cannot have made belongs to the default virtual host, as it is.
pub fn split(address: &str) -> (String, String) {
    let parts = match address.split_once(MARK) {
        None => unescape(address).map(|name| (DEFAULT.to_owned(), name)),
        Some((vhost, name)) => unescape(vhost).zip(unescape(name)),
    };
    parts
        .filter(|(vhost, name)| join(vhost, name) == address)
        .unwrap_or_else(|| (DEFAULT.to_owned(), address.to_owned()))
}

/// The virtual host of what [`join`] made.
pub fn of(address: &str) -> String {
    if address.contains(MARK) { split(address).0 } else { DEFAULT.to_owned() }
}

/// Any text as a part of a name.
pub fn escape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut escaped = String::with_capacity(text.len());
    for (at, byte) in bytes.iter().enumerate() {
        if stays(bytes, at) {
            escaped.push(char::from(*byte));
        } else {
            escaped += &format!("%{byte:02X}");
        }
    }
    escaped
}

/// What [`escape`] was given; nothing if it cannot have made this.
pub fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok())?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

/// Whether a byte needs no escape where it stands.
fn stays(bytes: &[u8], at: usize) -> bool {
    let near = |step: isize| at.checked_add_signed(step).and_then(|at| bytes.get(at).copied());
    let is_edge = |byte: Option<u8>| byte.is_none_or(|byte| byte == b'/');
    match bytes[at] {
        b':' => near(-1) != Some(b':') && near(1) != Some(b':'),
        b'/' => !is_edge(near(-1)) && !is_edge(near(1)),
        // Not where the part between two slashes is `.` or `..`.
        b'.' => {
            let start = bytes[..at].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            let part = bytes[start..].split(|byte| *byte == b'/').next().unwrap_or_default();
            part != b"." && part != b".."
        }
        byte => byte.is_ascii_alphanumeric() || b"_-@+=~,!".contains(&byte),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_escaped_only_where_they_must_be() {
        for (vhost, name, expected) in [
            ("/", "orders", "orders"),
            ("/", "orders.eu-west/late_ones:1", "orders.eu-west/late_ones:1"),
            ("v", "orders", "v::orders"),
            ("/", "$reserved", "%24reserved"),
            ("/", "a b", "a%20b"),
            ("/", "100%", "100%25"),
            ("/", "ä", "%C3%A4"),
            ("/", "a::b", "a%3A%3Ab"),
            ("/", "/a", "%2Fa"),
            ("/", "a//b/", "a%2F%2Fb%2F"),
            ("/", "a/../b", "a/%2E%2E/b"),
            ("/", ".", "%2E"),
            ("/", "...", "..."),
            ("a:b", "x", "a%3Ab::x"),
            ("/x", "x", "%2Fx::x"),
            ("v", "#*", "v::%23%2A"),
        ] {
            assert_eq!(join(vhost, name), expected);
            assert_eq!(split(expected), (vhost.to_owned(), name.to_owned()), "{expected}");
        }
    }

    #[test]
    fn a_name_that_was_never_joined_belongs_to_the_default_host_as_it_is() {
        for name in ["a%zz", "%41", "a%2", "%FF", "v::a::b"] {
            assert_eq!(split(name), ("/".to_owned(), name.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn any_two_texts_come_back_as_they_were(vhost in "[/:.%$a-cä ]{1,8}", name in "[/:.%$a-cä ]{1,8}") {
            let address = join(&vhost, &name);
            prop_assert!(!address.starts_with('$'));
            prop_assert_eq!(split(&address), (vhost, name));
        }
    }
}
