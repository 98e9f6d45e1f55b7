//! Cuts a WWW-Authenticate or Authorization value into schemes and parameters.
//!
//! Tolerant of blanks, empty places, missing quotes and several challenges in a line; never of a quoted
//! string that does not end or a parameter that stands twice, since two readers may take them differently.

use std::borrow::Cow;

use crate::quoted;

const GROUPS_MAX: usize = 16;
const PARAMS_MAX: usize = 32;
/// As many as credentials and challenges usually have, and no more.
const PARAMS_USUAL: usize = 10;

/// One challenge, or the credentials.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) scheme: &'a str,
    /// All before the first parameter, as it stands: the scheme and the blanks around it.
    pub(super) prefix: &'a str,
    pub(super) params: Vec<Param<'a>>,
}

/// One parameter.
#[derive(Debug)]
pub(super) struct Param<'a> {
    /// As it stands between the commas.
    pub(super) raw: &'a str,
    pub(super) name: &'a str,
    /// As it stands, quotes and all. None: the further values of a `qop` without quotes.
    pub(super) value: Option<&'a str>,
}

impl<'a> Group<'a> {
    pub(super) fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("Digest")
    }

    /// The value of a parameter as it may stand between quotes.
    pub(super) fn inner(&self, name: &str) -> Option<Cow<'a, str>> {
        let value = self.param(name)?.value?;
        Some(quoted::inner(value).map_or_else(|| quoted::escape(value), Cow::Borrowed))
    }

    /// Whether each parameter has a name of its own: credentials have one `qop`.
    pub(super) fn is_plain(&self) -> bool {
        self.params.iter().all(|param| param.value.is_some())
    }

    /// What a parameter's value means.
    pub(super) fn value(&self, name: &str) -> Option<Cow<'a, str>> {
        let value = self.param(name)?.value?;
        Some(quoted::inner(value).map_or(Cow::Borrowed(value), quoted::unescape))
    }

    /// The values of `qop`, in one place or, without quotes, in several.
    pub(super) fn qop(&self) -> Option<Vec<String>> {
        let first = self.value("qop")?;
        let further = self.params.iter().filter(|param| param.value.is_none());
        let all = first.split(',').chain(further.map(|param| param.name));
        Some(all.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()).collect())
    }

    fn param(&self, name: &str) -> Option<&Param<'a>> {
        self.params.iter().find(|param| param.name.eq_ignore_ascii_case(name))
    }

    /// Whether each name stands once.
    fn is_unambiguous(&self) -> bool {
        let named = |param: &&Param<'_>| param.value.is_some();
        self.params.iter().filter(named).enumerate().all(|(place, param)| {
            !self
                .params
                .iter()
                .filter(named)
                .take(place)
                .any(|other| other.name.eq_ignore_ascii_case(param.name))
        })
    }
}

/// What stands between two commas.
enum Piece<'a> {
    Blank,
    Scheme(&'a str, &'a str, Option<Param<'a>>),
    Param(Param<'a>),
}

/// All challenges of a value that stands on one line. `None` where it cannot be read.
pub(super) fn scan(value: &str) -> Option<Vec<Group<'_>>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for raw in quoted::split_unquoted(value, b',') {
        match piece(raw)? {
            Piece::Blank => {}
            Piece::Scheme(scheme, prefix, first) => {
                let mut params = Vec::with_capacity(PARAMS_USUAL);
                params.extend(first);
                groups.push(Group { scheme, prefix, params });
            }
            Piece::Param(param) => {
                let group = groups.last_mut()?;
                if param.value.is_none() && group.param("qop").is_none() {
                    return None;
                }
                group.params.push(param);
                if group.params.len() > PARAMS_MAX {
                    return None;
                }
            }
        }
        if groups.len() > GROUPS_MAX {
            return None;
        }
    }
    groups.iter().all(Group::is_unambiguous).then_some(groups)
}

fn piece(raw: &str) -> Option<Piece<'_>> {
    let (name, after) = word(raw);
    if name.is_empty() {
        return after.is_empty().then_some(Piece::Blank);
    }
    if after.starts_with('=') {
        return param(raw).map(Piece::Param);
    }
    if after.is_empty() {
        let further_qop = name.eq_ignore_ascii_case("auth") || name.eq_ignore_ascii_case("auth-int");
        return Some(if further_qop {
            Piece::Param(Param { raw, name, value: None })
        } else {
            Piece::Scheme(name, raw, None)
        });
    }
    let (prefix, rest) = raw.split_at_checked(raw.len() - after.len())?;
    if !prefix.ends_with([' ', '\t']) {
        return None;
    }
    // Another scheme may go on with something that is no parameter; it is not ours to read.
    Some(match param(rest) {
        Some(param) => Piece::Scheme(name, prefix, Some(param)),
        None if name.eq_ignore_ascii_case("Digest") => return None,
        None => Piece::Scheme(name, raw, None),
    })
}

fn param(raw: &str) -> Option<Param<'_>> {
    let (name, after) = word(raw);
    let value = after.strip_prefix('=')?.trim();
    let whole = quoted::inner(value).is_some() || !value.contains(['"', ' ', '\t']);
    (whole && !name.is_empty()).then_some(Param { raw, name, value: Some(value) })
}

/// The token at the start of `text`, and what follows it and the blanks behind it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(['=', '"', ' ', '\t']).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    (name, rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_and_their_parameters_are_bounded() {
        let challenge = |params: usize| {
            let params: Vec<_> = (0..params).map(|number| format!("p{number}=x")).collect();
            format!("Digest {}", params.join(", "))
        };
        assert_eq!(scan(&challenge(PARAMS_MAX)).map(|groups| groups[0].params.len()), Some(PARAMS_MAX));
        assert!(scan(&challenge(PARAMS_MAX + 1)).is_none());
        let challenges = |groups| vec![challenge(1); groups].join(", ");
        assert_eq!(scan(&challenges(GROUPS_MAX)).map(|groups| groups.len()), Some(GROUPS_MAX));
        assert!(scan(&challenges(GROUPS_MAX + 1)).is_none());
    }

    #[test]
    fn another_scheme_may_go_on_as_it_likes_and_digest_may_not() {
        let value = "NTLM TlRM TVNT, Digest realm=r, nonce=n";
        let schemes = scan(value).map(|groups| groups.iter().map(|group| group.scheme).collect::<Vec<_>>());
        assert_eq!(schemes, Some(vec!["NTLM", "Digest"]));
        assert!(scan("Digest TlRM TVNT").is_none());
    }
}
