//! What a certificate says, for people and for the hardware ID: names, dates, the one identity field.
//!
//! Reads certificates only after or beside the verifier, never decides whether one is good. All text that
//! it makes is printable ASCII of bounded length, whatever the certificate holds. RFC 5280 §4.1.2, §4.2.1.6.

use std::fmt::Write;

use wire::clock::WallTime;
use wire::net::{ChainVerified, VerifiedDevice};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

/// Characters of one name that are shown.
const NAME_CHARS_MAX: usize = 256;

/// The field of a device certificate in which a device CA writes the hardware ID. Each device CA names one:
/// searching several would let its freest field win.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdentityField {
    /// `subject.CN`
    #[default]
    CommonName,
    /// `subject.ST`
    State,
    /// `subject.serialNumber`
    SerialNumber,
    /// `subject.L`
    Locality,
    /// `subject.OU`
    OrganizationalUnit,
    /// `san.dns`
    SanDns,
    /// `san.uri`
    SanUri,
}

impl IdentityField {
    /// Every field, in the order in which errors list them.
    pub const ALL: [Self; 7] = [
        Self::CommonName,
        Self::State,
        Self::SerialNumber,
        Self::Locality,
        Self::OrganizationalUnit,
        Self::SanDns,
        Self::SanUri,
    ];

    /// The field that the configuration names so.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.as_str() == text)
    }

    /// The field as the configuration names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CommonName => "subject.CN",
            Self::State => "subject.ST",
            Self::SerialNumber => "subject.serialNumber",
            Self::Locality => "subject.L",
            Self::OrganizationalUnit => "subject.OU",
            Self::SanDns => "san.dns",
            Self::SanUri => "san.uri",
        }
    }

    fn subject_oid(self) -> Option<&'static str> {
        match self {
            Self::CommonName => Some("2.5.4.3"),
            Self::State => Some("2.5.4.8"),
            Self::SerialNumber => Some("2.5.4.5"),
            Self::Locality => Some("2.5.4.7"),
            Self::OrganizationalUnit => Some("2.5.4.11"),
            Self::SanDns | Self::SanUri => None,
        }
    }

    fn values(self, certificate: &X509Certificate<'_>) -> Vec<Vec<u8>> {
        match self.subject_oid() {
            Some(oid) => certificate
                .subject()
                .iter_attributes()
                .filter(|attribute| attribute.attr_type().to_id_string() == oid)
                .map(|attribute| attribute.as_slice().to_vec())
                .collect(),
            None => alternative_names(certificate, |name| match (self, name) {
                (Self::SanDns, GeneralName::DNSName(name)) => Some(name.as_bytes().to_vec()),
                (Self::SanUri, GeneralName::URI(uri)) => Some(uri.as_bytes().to_vec()),
                // An entry that cannot be read must not hide behind one that can.
                (_, GeneralName::Invalid(_, bytes)) => Some(bytes.to_vec()),
                _ => None,
            }),
        }
    }
}

/// What a leaf certificate says of itself.
#[derive(Debug)]
pub(crate) struct Leaf<'a>(Option<X509Certificate<'a>>);

impl<'a> Leaf<'a> {
    /// Reads a certificate in DER; one that cannot be read has no names and no values.
    pub(crate) fn read(der: &'a [u8]) -> Self {
        Self(X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate))
    }

    /// The device that the verified certificate stands for.
    pub(crate) fn device(&self, field: IdentityField, chain: ChainVerified) -> VerifiedDevice {
        VerifiedDevice {
            field_values: self.0.as_ref().map(|certificate| field.values(certificate)).unwrap_or_default(),
            subject: self.subject(),
            issuer: self.issuer(),
            not_after: WallTime(self.not_after().unwrap_or(0).saturating_mul(1000)),
            chain,
        }
    }

    /// How many CAs it allows between itself and a device (RFC 5280 §4.2.1.9), where it sets a bound. One that
    /// cannot be read allows none.
    pub(crate) fn path_len(&self) -> Option<usize> {
        let Some(certificate) = &self.0 else { return Some(0) };
        let constraints = certificate.basic_constraints().ok().flatten()?.value;
        constraints.path_len_constraint.map(|most| usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// Subject, issuer and dates in one line.
    pub(crate) fn describe(&self) -> String {
        let Some(certificate) = &self.0 else { return "a certificate that cannot be read".into() };
        let validity = certificate.validity();
        format!(
            "subject {}, issuer {}, valid from {} to {}",
            self.subject(),
            self.issuer(),
            date(validity.not_before.timestamp()),
            date(validity.not_after.timestamp()),
        )
    }

    /// End of validity, in seconds since 1970.
    pub(crate) fn not_after(&self) -> Option<u64> {
        let certificate = self.0.as_ref()?;
        u64::try_from(certificate.validity().not_after.timestamp()).ok()
    }

    /// The DNS names that it was issued for.
    pub(crate) fn host_names(&self) -> Vec<String> {
        let Some(certificate) = &self.0 else { return Vec::new() };
        alternative_names(certificate, |name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
    }

    fn subject(&self) -> String {
        self.0.as_ref().map(|certificate| name(certificate.subject())).unwrap_or_default()
    }

    fn issuer(&self) -> String {
        self.0.as_ref().map(|certificate| name(certificate.issuer())).unwrap_or_default()
    }
}

/// Text in printable ASCII, cut at `max` characters; everything else stands as its escape.
pub(crate) fn printable(text: &str, max: usize) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        if shown.len() >= max {
            shown.truncate(max);
            shown.push_str("...");
            break;
        }
        if character == ' ' || character.is_ascii_graphic() {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
    }
    shown
}

fn alternative_names<T>(
    certificate: &X509Certificate<'_>,
    pick: impl FnMut(&GeneralName<'_>) -> Option<T>,
) -> Vec<T> {
    match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().filter_map(pick).collect(),
        _ => Vec::new(),
    }
}

/// A distinguished name as people write it; a comma, quote or equals sign inside a value is quoted, so that
/// one value cannot pass for two.
fn name(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    for attribute in name.iter_attributes() {
        let oid = attribute.attr_type().to_id_string();
        let key = match oid.as_str() {
            "2.5.4.3" => "CN",
            "2.5.4.5" => "serialNumber",
            "2.5.4.6" => "C",
            "2.5.4.7" => "L",
            "2.5.4.8" => "ST",
            "2.5.4.10" => "O",
            "2.5.4.11" => "OU",
            other => other,
        };
        let value = String::from_utf8_lossy(attribute.as_slice());
        let value = printable(&value, NAME_CHARS_MAX);
        let separator = if text.is_empty() { "" } else { ", " };
        let quoted = value.contains([',', '"', '=', '+', ';']);
        let value = if quoted { format!("\"{}\"", value.replace('"', "\\\"")) } else { value };
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{separator}{key}={value}");
        if text.len() > NAME_CHARS_MAX {
            break;
        }
    }
    if text.is_empty() { "(empty)".into() } else { printable(&text, NAME_CHARS_MAX) }
}

/// Seconds since 1970 as a date and time in UTC (RFC 3339), by the proleptic Gregorian calendar.
fn date(timestamp: i64) -> String {
    let (days, seconds) = (timestamp.div_euclid(86_400), timestamp.rem_euclid(86_400));
    // Days counted from 1 March of the year 0, in eras of 400 years, so that a leap day ends a year.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (timestamp, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(date(timestamp), text);
        }
    }

    #[test]
    fn each_field_is_read_as_its_bytes_stand() {
        let der = certificate(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::CommonName, "009033010203");
            name.push(DnType::StateOrProvinceName, "IP110-01-02-03");
            name.push(DnType::OrganizationalUnitName, "\u{ff10}0:90:33");
            name.push(DnType::LocalityName, "here");
            name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), "SEP009033010203");
            params.subject_alt_names = vec![
                SanType::DnsName("phone.example.com".try_into().unwrap()),
                SanType::URI("urn:mac:009033010203".try_into().unwrap()),
                SanType::DnsName("second.example.com".try_into().unwrap()),
            ];
        });
        let leaf = Leaf::read(&der);
        for (field, values) in [
            ("subject.CN", vec!["009033010203"]),
            ("subject.ST", vec!["IP110-01-02-03"]),
            ("subject.OU", vec!["\u{ff10}0:90:33"]),
            ("subject.L", vec!["here"]),
            ("subject.serialNumber", vec!["SEP009033010203"]),
            ("san.dns", vec!["phone.example.com", "second.example.com"]),
            ("san.uri", vec!["urn:mac:009033010203"]),
        ] {
            let device = leaf.device(IdentityField::parse(field).unwrap(), ChainVerified::assertion());
            let expected: Vec<_> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
            assert_eq!(device.field_values, expected, "{field}");
        }
        assert_eq!(leaf.host_names(), ["phone.example.com", "second.example.com"]);
        assert_eq!(IdentityField::parse("subject.cn"), None);
    }

    #[test]
    fn a_hostile_name_stays_one_printable_name() {
        let der = certificate(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::CommonName, "a, O=Trusted\r\nX: y\0\u{202e}");
            name.push(DnType::OrganizationName, "x".repeat(5000));
        });
        let text = Leaf::read(&der).describe();
        assert!(text.starts_with("subject CN=\"a, O=Trusted\\r\\nX: y\\u{0}\\u{202e}\", O=xxx"), "{text}");
        assert!(text.len() < 1000 && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
    }

    #[test]
    fn rubbish_has_no_names() {
        let leaf = Leaf::read(b"0\x82\xff\xffrubbish");
        assert_eq!(leaf.describe(), "a certificate that cannot be read");
        assert_eq!(
            leaf.device(IdentityField::CommonName, ChainVerified::assertion()).field_values,
            [[0; 0]; 0]
        );
    }
}
