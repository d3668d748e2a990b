//! Whose certificate has TLS checked on a connection?

use waystation_net::Stream;

/// The common name in the client's certificate; none without TLS or without a certificate.
pub(super) fn common_name(stream: &Stream) -> Option<String> {
    let Stream::Tls(stream) = stream else { return None };
    let certificates = stream.get_ref().1.peer_certificates()?;
    subject_common_name(certificates.first()?)
}

/// One element of DER (X.690 §8.1): its type, what it holds, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&kind, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let digits = usize::from(first & 0x7f);
        if !(1..=4).contains(&digits) || rest.len() < digits {
            return None;
        }
        length = rest[..digits].iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = &rest[digits..];
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((kind, content, rest))
}

/// The last common name (OID 2.5.4.3) of the subject (RFC 5280 §4.1): the most specific one.
fn subject_common_name(certificate: &[u8]) -> Option<String> {
    const CONTEXT_0: u8 = 0xa0;
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&CONTEXT_0) {
        rest = element(rest)?.2;
    }
    // Serial number, signature algorithm, issuer, validity; then the subject.
    for _ in 0..4 {
        rest = element(rest)?.2;
    }
    let (_, mut names, _) = element(rest)?;
    let mut found = None;
    while !names.is_empty() {
        let (_, mut set, after) = element(names)?;
        names = after;
        while !set.is_empty() {
            let (_, attribute, after) = element(set)?;
            set = after;
            let (_, kind, value) = element(attribute)?;
            if kind == COMMON_NAME {
                found = element(value).and_then(|(_, text, _)| String::from_utf8(text.to_vec()).ok());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(kind: u8, parts: &[Vec<u8>]) -> Vec<u8> {
        let content = parts.concat();
        assert!(content.len() < 128, "short form");
        [vec![kind, content.len() as u8], content].concat()
    }

    fn name(text: &str) -> Vec<u8> {
        let oid = der(0x06, &[vec![0x55, 0x04, 0x03]]);
        let attribute = der(0x30, &[oid, der(0x0c, &[text.as_bytes().to_vec()])]);
        der(0x30, &[der(0x31, &[attribute])])
    }

    #[test]
    fn the_subject_is_told_from_the_issuer() {
        let plain = || der(0x30, &[]);
        let body =
            [der(0xa0, &[vec![2, 1, 2]]), der(2, &[vec![1]]), plain(), name("ca"), plain(), name("shop")];
        let certificate = der(0x30, &[der(0x30, &body)]);
        assert_eq!(subject_common_name(&certificate).as_deref(), Some("shop"));
        for cut in 0..certificate.len() {
            assert_eq!(subject_common_name(&certificate[..cut]), None);
        }
    }

    #[test]
    fn a_length_past_the_end_is_refused() {
        assert_eq!(element(&[0x30, 0x82, 0xff, 0xff, 0]), None);
        assert_eq!(element(&[0x30, 0x85, 0, 0, 0, 0, 0]), None);
        assert_eq!(element(&[0x30]), None);
    }
}
