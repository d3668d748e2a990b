//! Which name of Waystation's stands for a name in a virtual host, and the other way round? See [`waystation_base::vhost`].

use std::borrow::Cow;

use waystation_base::{Name, name, vhost};

/// The name of a queue, topic or route in a virtual host. It can be too long once it is escaped.
pub fn name(vhost: &str, amqp: &str) -> Result<Name, name::Error> {
    if vhost == vhost::DEFAULT && is_plain(amqp) {
        return Name::new(amqp);
    }
    Name::new(vhost::join(vhost, amqp))
}

/// What AMQP clients call it, whatever virtual host it is in.
pub fn amqp_name(name: &str) -> Cow<'_, str> {
    if is_plain(name) || !has_marks(name) { Cow::Borrowed(name) } else { Cow::Owned(vhost::split(name).1) }
}

/// Virtual host and AMQP name.
pub fn parts(name: &Name) -> (String, String) {
    vhost::split(name.as_str())
}

/// Nothing in it needs an escape, and nothing looks like one.
fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    text.bytes().all(plain) && !matches!(text, "" | "." | "..")
}

/// Whether there may be an escape or a virtual host in it.
fn has_marks(name: &str) -> bool {
    name.contains('%') || name.contains("::")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_of_the_default_host_stand_as_they_are() {
        for (vhost, amqp, expected) in [
            ("/", "orders.eu", "orders.eu"),
            ("/", "amq.gen-x_1", "amq.gen-x_1"),
            ("/", "a b", "a%20b"),
            ("/", "..", "%2E%2E"),
            ("shop", "orders", "shop::orders"),
        ] {
            let name = name(vhost, amqp).expect("a name");
            assert_eq!(name.as_str(), expected);
            assert_eq!(amqp_name(expected), amqp);
        }
        assert_eq!(name("/", ""), Err(waystation_base::name::Error::Empty));
        assert!(name("/", &"ä".repeat(127)).is_ok());
    }

    proptest! {
        #[test]
        fn any_name_comes_back_from_any_virtual_host(vhost in ".{1,12}", amqp in ".{1,12}") {
            let name = name(&vhost, &amqp).expect("short enough");
            prop_assert_eq!(amqp_name(name.as_str()), amqp.clone());
            prop_assert_eq!(parts(&name), (vhost, amqp));
        }
    }
}
