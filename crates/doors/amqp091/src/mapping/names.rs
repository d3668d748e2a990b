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

/// The queue that a key names under the default exchange. The one for replies to calls is the same in every virtual host.
pub fn queue_by_key(vhost: &str, key: &str) -> Result<Name, name::Error> {
    if key == name::CALL_REPLIES { Name::reserved(key) } else { self::name(vhost, key) }
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

    #[test]
    fn only_the_key_of_replies_to_calls_names_a_queue_of_our_own() {
        for vhost in ["/", "shop"] {
            let name = queue_by_key(vhost, "$calls.replies").expect("a name");
            assert_eq!(name.as_str(), "$calls.replies");
        }
        assert_eq!(queue_by_key("/", "$calls").expect("a name").as_str(), "%24calls");
        assert_eq!(queue_by_key("shop", "orders").expect("a name").as_str(), "shop::orders");
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
