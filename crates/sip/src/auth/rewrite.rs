//! Changes the `opaque` of challenges and credentials that pass through; every other byte of what passes stays,
//! for the phone and the PBX hash them.
//!
//! Never lets `auth-int` through: a body that is rewritten on its way would break it. Never lets anything of a
//! challenge through that a phone does not need for its answer: a challenge goes to everybody who asks, and its
//! `domain`, another scheme and parameters of a maker's own name hosts of the PBX's network.

use std::borrow::Cow;

use wire::sip::unfold;

use super::scan::{Group, Param, scan};
use crate::quoted::escape;

/// What a phone needs of a challenge besides `opaque` and `qop` (RFC 7616 §3.3). `domain` it does not: without one, the
/// challenge holds for the whole server that sent it.
const PASSED: [&str; 6] = ["realm", "nonce", "algorithm", "stale", "userhash", "charset"];

/// The Digest challenges of a WWW-Authenticate or Proxy-Authenticate value with another `opaque` in each, and
/// without `auth-int`. `None` where it cannot be read, or none is left.
pub fn challenge_with(value: &str, opaque: &str) -> Option<String> {
    let value = unfold(value);
    let mut groups = scan(&value)?;
    groups.retain(|group| group.is_digest() && !asks_for_integrity_only(group));
    let written = groups.iter().map(|group| rewritten(group, Some(opaque), |param| passed(group, param)));
    (!groups.is_empty()).then(|| written.collect::<Vec<_>>().join(",").trim().to_owned())
}

/// An Authorization or Proxy-Authorization value with another `opaque`, or without one. `None` where it
/// cannot be read as one set of Digest credentials.
pub fn authorization_with(value: &str, opaque: Option<&str>) -> Option<String> {
    let value = unfold(value);
    let groups = scan(&value)?;
    let [group] = groups.as_slice() else { return None };
    (group.is_digest() && group.is_plain())
        .then(|| rewritten(group, opaque, |param| Some(Cow::Borrowed(param.raw))).trim().to_owned())
}

fn asks_for_integrity_only(group: &Group<'_>) -> bool {
    group.qop().is_some_and(|values| !values.is_empty() && values.iter().all(|value| is_integrity(value)))
}

/// One Digest challenge or the credentials, with this `opaque` where the old one stood, else at the end,
/// and the other parameters as `other` gives them.
fn rewritten<'a>(
    group: &'a Group<'a>,
    opaque: Option<&str>,
    other: impl Fn(&'a Param<'a>) -> Option<Cow<'a, str>>,
) -> String {
    let mut opaque = opaque.map(|opaque| format!("opaque=\"{}\"", escape(opaque)));
    let mut params: Vec<Cow<'_, str>> = Vec::with_capacity(group.params.len() + 1);
    for param in &group.params {
        if param.name.eq_ignore_ascii_case("opaque") {
            params.extend(opaque.take().map(|opaque| replaced(param, &opaque)));
        } else {
            params.extend(other(param));
        }
    }
    if let Some(last) = params.last_mut().filter(|_| opaque.is_some()) {
        *last = Cow::Owned(last.trim_end().to_owned());
    }
    params.extend(opaque.map(|opaque| Cow::Owned(format!(" {opaque}"))));
    join(group.prefix, params.into_iter())
}

/// The first parameter follows the scheme; the others stand as between their commas.
fn join<'a>(prefix: &str, params: impl Iterator<Item = Cow<'a, str>>) -> String {
    let mut text = prefix.to_owned();
    for (place, param) in params.enumerate() {
        if place == 0 {
            if !prefix.ends_with([' ', '\t']) {
                text.push(' ');
            }
            text.push_str(param.trim_start());
        } else {
            text.push(',');
            text.push_str(&param);
        }
    }
    text
}

/// `with` between the blanks of `param`.
fn replaced<'a>(param: &Param<'_>, with: &str) -> Cow<'a, str> {
    let start = param.raw.len() - param.raw.trim_start().len();
    let end = param.raw.trim_end().len();
    let (before, after) = (param.raw.get(..start), param.raw.get(end..));
    Cow::Owned([before.unwrap_or_default(), with, after.unwrap_or_default()].concat())
}

/// A parameter of a challenge as it stands, where it may pass, but for `auth-int` in the `qop`; further values of a
/// `qop` without quotes go where the first is.
fn passed<'a>(group: &Group<'_>, param: &'a Param<'_>) -> Option<Cow<'a, str>> {
    if param.value.is_some() && !param.name.eq_ignore_ascii_case("qop") {
        let passes = PASSED.iter().any(|name| param.name.eq_ignore_ascii_case(name));
        return passes.then_some(Cow::Borrowed(param.raw));
    }
    let values = group.qop().unwrap_or_default();
    if !values.iter().any(|value| is_integrity(value)) {
        return Some(Cow::Borrowed(param.raw));
    }
    param.value?;
    let kept: Vec<_> = values.into_iter().filter(|value| !is_integrity(value)).collect();
    Some(replaced(param, &format!("qop=\"{}\"", escape(&kept.join(",")))))
}

fn is_integrity(value: &str) -> bool {
    value.eq_ignore_ascii_case("auth-int")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Authorization, Challenge, Qop};

    #[test]
    fn challenges_pass_with_what_a_phone_needs_and_our_opaque() {
        let rows = [
            (
                r#"Digest realm="a", nonce="n\"x" , opaque="old", algorithm=SHA-256,qop="auth""#,
                r#"Digest realm="a", nonce="n\"x" , opaque="new", algorithm=SHA-256,qop="auth""#,
            ),
            (r#"Digest realm="a", nonce="n""#, r#"Digest realm="a", nonce="n", opaque="new""#),
            (r#"digest  opaque=old ,realm=a,nonce=n"#, r#"digest  opaque="new" ,realm=a,nonce=n"#),
            (
                r#"Digest realm="a", qop="auth, auth-int" , nonce="n", opaque="o""#,
                r#"Digest realm="a", qop="auth" , nonce="n", opaque="new""#,
            ),
            (
                r#"Digest realm="a", nonce="n", qop=auth,auth-int, opaque="o""#,
                r#"Digest realm="a", nonce="n", qop="auth", opaque="new""#,
            ),
            (
                r#"Digest realm="a", nonce="n", qop=auth-int,auth"#,
                r#"Digest realm="a", nonce="n", qop="auth", opaque="new""#,
            ),
            (
                r#"Digest realm="a", nonce="1", algorithm=SHA-512-256, Digest realm="a", opaque="", nonce="2""#,
                r#"Digest realm="a", nonce="1", algorithm=SHA-512-256, opaque="new", Digest realm="a", opaque="new", nonce="2""#,
            ),
            (
                r#"Basic realm="b", Digest realm="a", nonce="2", Negotiate"#,
                r#"Digest realm="a", nonce="2", opaque="new""#,
            ),
            (
                r#"NTLM realm="SIP", targetname="fe1.corp.internal", Digest realm="a", domain="sip:10.0.0.4", nonce="2" , x-host="10.0.0.4" , Basic realm="at 10.0.0.4""#,
                r#"Digest realm="a", nonce="2", opaque="new""#,
            ),
            (
                r#"Digest domain="sip:10.0.0.4", realm="a",STALE=true, nonce="2", userhash=true, charset=UTF-8, opaque="x", at=10.0.0.4"#,
                r#"Digest realm="a",STALE=true, nonce="2", userhash=true, charset=UTF-8, opaque="new""#,
            ),
            (
                r#"Digest realm="a", nonce="1", qop="auth-int", Digest realm="a", nonce="2", qop="auth""#,
                r#"Digest realm="a", nonce="2", qop="auth", opaque="new""#,
            ),
        ];
        for (value, expected) in rows {
            assert_eq!(challenge_with(value, "new").as_deref(), Some(expected), "{value}");
        }
    }

    #[test]
    fn a_challenge_without_qop_of_ours_is_none() {
        for value in [
            r#"Digest realm="a", nonce="n", qop="auth-int""#,
            r#"Digest realm="a", nonce="n", qop=AUTH-INT"#,
            r#"Basic realm="a""#,
            r#"Digest realm="a"#,
            "",
        ] {
            assert_eq!(challenge_with(value, "new"), None, "{value}");
        }
    }

    #[test]
    fn credentials_change_in_opaque_alone() {
        let value = r#"Digest username="1001", realm="a",nonce="n" , uri="sip:a", response="0f", opaque="ours", qop=auth, nc=00000001, cnonce="c""#;
        assert_eq!(authorization_with(value, Some("ours")).as_deref(), Some(value));
        assert_eq!(
            authorization_with(value, Some("pbx")).as_deref(),
            Some(value.replace("ours", "pbx").as_str())
        );
        assert_eq!(
            authorization_with(value, None).as_deref(),
            Some(value.replace(" opaque=\"ours\",", "").as_str())
        );
        assert_eq!(
            authorization_with(r#"Digest opaque="ours", username="1001""#, None).as_deref(),
            Some(r#"Digest username="1001""#)
        );
        let integrity = value.replace("qop=auth", "qop=auth-int");
        assert_eq!(authorization_with(&integrity, Some("ours")).as_deref(), Some(integrity.as_str()));
        for bad in [
            "",
            "Basic x",
            r#"Digest opaque="a", opaque="b""#,
            r#"Digest a=1, Digest b=2"#,
            r#"Digest a="#,
            r#"Digest a="x"#,
        ] {
            let read = authorization_with(bad, Some("pbx"));
            assert_eq!(read.is_some(), bad == "Digest a=", "{bad}");
        }
    }

    #[test]
    fn a_comma_behind_the_scheme_does_no_harm() {
        let changed = challenge_with(r#"Digest, realm="a", nonce="n""#, "new");
        assert_eq!(changed.as_deref(), Some(r#"Digest realm="a", nonce="n", opaque="new""#));
    }

    /// Values put together from such parts, in an order that is always the same.
    fn odd_values() -> impl Iterator<Item = String> {
        const PARTS: [&str; 20] = [
            "Digest ",
            "Digest",
            "Basic ",
            "realm=",
            "nonce=",
            "opaque=",
            "qop=",
            "\"a\"",
            "\"b,c\"",
            "\"d\\\"",
            "\"",
            "\\",
            ",",
            ", ",
            " ",
            "=",
            "auth",
            "auth-int",
            "realm=\"r\",nonce=\"n\"",
            "\r\n ",
        ];
        let mut state = 1_u64;
        let mut next = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).expect("31 bits") % below
        };
        (0..100_000).map(move |_| {
            let start = ["", "Digest realm=\"x\", nonce=\"y\"", "Digest realm=x, nonce=y, "][next(3)];
            let rest = (0..next(12)).map(|_| PARTS[next(PARTS.len())]).collect::<String>();
            format!("{start}{rest}")
        })
    }

    #[test]
    fn whatever_comes_only_opaque_and_auth_int_change() {
        let plain = |challenge: &Challenge| (challenge.realm().into_owned(), challenge.nonce().into_owned());
        let mut changed_challenges = 0;
        for value in odd_values() {
            if let Some(changed) = challenge_with(&value, "new\"") {
                assert!(!changed.contains(char::is_control), "{value}");
                let (before, after) = (Challenge::parse(&value), Challenge::parse(&changed));
                let answerable = before.iter().filter(|challenge| challenge.qop != Qop::Unsupported);
                let kept = after.iter().filter(|challenge| challenge.qop != Qop::Unsupported);
                assert!(answerable.map(plain).eq(kept.map(plain)), "{value} -> {changed}");
                assert!(
                    after.iter().all(|challenge| challenge.opaque().as_deref() == Some("new\"")),
                    "{value}"
                );
                let groups = scan(&changed).expect("readable");
                let digest = groups.iter().filter(|group| group.is_digest());
                let mut offered = digest.filter_map(Group::qop).flatten();
                assert!(!offered.any(|qop| is_integrity(&qop)), "{value} -> {changed}");
                changed_challenges += after.len();
            }
            if let Some(changed) = authorization_with(&value, Some("new")) {
                let groups = scan(&changed).unwrap_or_else(|| panic!("{value} -> {changed}"));
                assert_eq!(
                    groups.iter().map(|group| group.value("opaque")).collect::<Vec<_>>(),
                    [Some("new".into())]
                );
                let gone = authorization_with(&changed, None).expect("readable");
                assert!(
                    scan(&gone).expect("readable").iter().all(|group| group.value("opaque").is_none()),
                    "{value}"
                );
            }
        }
        assert!(changed_challenges > 1_000, "the parts do make challenges: {changed_challenges}");
    }

    #[test]
    fn no_opaque_breaks_out() {
        let evil = "x\", realm=\"evil\"\r\nVia: y\\";
        let challenge =
            challenge_with("Digest realm=\"a\", nonce=\"n\",\r\n qop=\"auth\"", evil).expect("a value");
        assert!(!challenge.contains(|c: char| c.is_control()));
        let read = Challenge::parse(&challenge).pop().expect("a challenge");
        assert_eq!(read.realm(), "a");
        assert_eq!(read.opaque().as_deref(), Some("x\", realm=\"evil\"  Via: y\\"));
        let value = "Digest username=\"u\", realm=\"a\", nonce=\"n\", uri=\"s\", response=\"0\"";
        let value = authorization_with(value, Some(evil)).expect("a value");
        let read = Authorization::parse(&value).expect("readable");
        assert_eq!((&*read.realm, &*read.username), ("a", "u"));
    }
}
