//! How do user and password stand in a header? RFC 7617.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// User and password of the part after `Basic`.
pub(crate) fn decode(proof: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(proof).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_have_colons_and_a_user_may_not() {
        let check = |text: &str| decode(&STANDARD.encode(text));
        assert_eq!(check("shop:a:b"), Some(("shop".into(), "a:b".into())));
        assert_eq!(check("shop"), None);
        assert_eq!(decode("§"), None);
    }
}
