//! Hardware IDs: every form that names a device, and what must never name one.

use guard::{HardwareId, HardwareIdError};

const FORMS: [&str; 6] = [
    "009033010203",
    "00:90:33:01:02:03",
    "00-90-33-01-02-03",
    "0090.3301.0203",
    "SEP009033010203",
    "IP110-01-02-03",
];

fn parse(value: &[u8]) -> Result<String, HardwareIdError> {
    HardwareId::parse(value).map(|id| id.to_string())
}

#[test]
fn every_form_names_the_same_device() {
    for form in FORMS {
        assert_eq!(parse(form.as_bytes()).as_deref(), Ok("009033010203"), "{form}");
        assert_eq!(form.parse::<HardwareId>().unwrap().bytes(), [0, 0x90, 0x33, 1, 2, 3], "{form}");
    }
}

const GOOD: &[(&str, &str)] = &[
    ("ABCDEFabcdef", "abcdefabcdef"),
    ("aB:Cd:eF:01:23:45", "abcdef012345"),
    ("AB-CD-EF-01-23-45", "abcdef012345"),
    ("ABCD.EF01.2345", "abcdef012345"),
    ("sepABCDEF012345", "abcdef012345"),
    ("Sepabcdef012345", "abcdef012345"),
    ("IP28-ff-fe-fd", "009033fffefd"),
    ("ip200A-ff-fe-fd", "009033fffefd"),
    ("IP6000-ff-fe-fd", "009033fffefd"),
    ("IP3000A-ff-fe-fd", "009033fffefd"),
];

const NEVER: &[&str] = &[
    // Too few or too many of anything.
    "",
    "00903301020",
    "0090330102033",
    "00:90:33:01:02",
    "00:90:33:01:02:03:04",
    "00:90:33:01:02:03:",
    ":00:90:33:01:02:03",
    "0:90:33:1:2:3",
    "0:0:90:33:01:02:3",
    "SEP00903301020",
    "SEPSEP009033010203",
    "IP1-01-02-03",
    "IP123456-01-02-03",
    "IP-01-02-03",
    "IP110-01-02",
    "IP110-01-02-03-04",
    "IP110-010203",
    // Separators that are mixed, wrong or misplaced.
    "00:90:33-01:02:03",
    "00-90-33-01-02:03",
    "00.90.33.01.02.03",
    "0090:3301:0203",
    "0090-3301-0203",
    "009.033.010.203",
    "0090.33.010203",
    "00 90 33 01 02 03",
    "00_90_33_01_02_03",
    "009033-010203",
    "SEP00:90:33:01:02:03",
    "SEP-009033010203",
    "IP110:01:02:03",
    "IP110.01.02.03",
    "IP1-0-01-02-03",
    "XP110-01-02-03",
    // No digits.
    "00903301020g",
    "0x9033010203",
    "+09033010203",
    "-09033010203",
    "00:90:33:01:02:0g",
    "IP110-01-02-0x",
    // Wildcards, blanks, NUL, parts of something longer.
    "*",
    "0090330102*3",
    "00:90:33:01:02:*",
    "00:90:33:*",
    "IP110-*-02-03",
    "*.00:90:33:01:02:03",
    " 009033010203",
    "009033010203 ",
    "009033010203\n",
    "\t009033010203",
    "009033010203\0",
    "009033010203\0.example",
    "00903301\x00203",
    "CN=009033010203",
    "009033010203.example.com",
    "009033010203,009033010204",
    "{009033010203}",
    // Digits of other alphabets that look alike.
    "\u{FF10}09033010203",
    "00903301020\u{0663}",
    "009033010\u{0417}03",
    "00\u{FF1A}90:33:01:02:03",
    "00\u{2010}90-33-01-02-03",
    "\u{0405}EP009033010203",
    "\u{0406}P110-01-02-03",
    "0090330102\u{200B}03",
    "\u{FEFF}009033010203",
];

#[test]
fn forms_and_their_neighbours() {
    for (value, expected) in GOOD {
        assert_eq!(parse(value.as_bytes()).as_deref(), Ok(*expected), "{value:?}");
    }
    for value in NEVER {
        assert_eq!(parse(value.as_bytes()), Err(HardwareIdError::Unusable), "{value:?}");
    }
}

/// Every byte at every place of every form, and every byte put in or taken out, against a reading that is
/// written another way: by patterns.
#[test]
fn one_byte_changed_in_every_form() {
    const PATTERNS: [&str; 6] = [
        "hhhhhhhhhhhh",
        "hh:hh:hh:hh:hh:hh",
        "hh-hh-hh-hh-hh-hh",
        "hhhh.hhhh.hhhh",
        "SEPhhhhhhhhhhhh",
        "IP?-hh-hh-hh",
    ];
    fn fits(pattern: &[u8], value: &[u8]) -> bool {
        match (pattern, value) {
            ([], []) => true,
            ([b'?', pattern @ ..], value) => (2..=5).any(|len| {
                value.len() >= len
                    && value[..len].iter().all(u8::is_ascii_alphanumeric)
                    && fits(pattern, &value[len..])
            }),
            ([b'h', pattern @ ..], [byte, value @ ..]) => byte.is_ascii_hexdigit() && fits(pattern, value),
            ([expected, pattern @ ..], [byte, value @ ..]) => {
                expected.eq_ignore_ascii_case(byte) && fits(pattern, value)
            }
            _ => false,
        }
    }
    let check = |value: &[u8]| {
        let expected = PATTERNS.iter().any(|pattern| fits(pattern.as_bytes(), value));
        assert_eq!(HardwareId::parse(value).is_ok(), expected, "{:?}", String::from_utf8_lossy(value));
        expected
    };
    let (mut good, mut bad) = (0, 0);
    let mut count = |fits: bool| if fits { good += 1 } else { bad += 1 };
    for form in FORMS {
        for position in 0..=form.len() {
            for byte in 0..=u8::MAX {
                let mut longer = form.as_bytes().to_vec();
                longer.insert(position, byte);
                count(check(&longer));
                let mut changed = form.as_bytes().to_vec();
                if let Some(place) = changed.get_mut(position) {
                    *place = byte;
                    count(check(&changed));
                }
            }
            let mut shorter = form.as_bytes().to_vec();
            if position < shorter.len() {
                shorter.remove(position);
                count(check(&shorter));
            }
        }
    }
    assert!(good > 1_000 && bad > 20_000, "{good} good, {bad} bad");
}

#[test]
fn every_byte_is_read_in_its_place() {
    for byte in 0..=u8::MAX {
        for place in 0..6 {
            let mut bytes = [0x11; 6];
            bytes[place] = byte;
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            for text in
                [hex.concat(), hex.join(":"), hex.join("-").to_uppercase(), format!("SEP{}", hex.concat())]
            {
                assert_eq!(text.parse::<HardwareId>().unwrap().bytes(), bytes, "{text}");
                assert_eq!(text.parse::<HardwareId>().unwrap().to_string(), hex.concat());
            }
        }
    }
}

#[test]
fn the_values_of_a_field_must_agree() {
    let other = "009033010204";
    for (values, expected) in [
        (vec![], Err(HardwareIdError::Missing)),
        (vec![FORMS[0]], Ok("009033010203")),
        (FORMS.to_vec(), Ok("009033010203")),
        (vec![FORMS[0], other], Err(HardwareIdError::Ambiguous)),
        (vec![FORMS[0], other, FORMS[0]], Err(HardwareIdError::Ambiguous)),
        (vec![FORMS[0], "phone"], Err(HardwareIdError::Unusable)),
        (vec!["phone", FORMS[0]], Err(HardwareIdError::Unusable)),
        (vec![FORMS[0], other, "phone"], Err(HardwareIdError::Unusable)),
        (vec![""], Err(HardwareIdError::Unusable)),
    ] {
        let bytes: Vec<Vec<u8>> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
        let id = HardwareId::from_values(&bytes).map(|id| id.to_string());
        assert_eq!(id, expected.map(str::to_owned), "{values:?}");
    }
}

#[test]
fn each_fault_is_told_in_words() {
    let words = [HardwareIdError::Missing, HardwareIdError::Unusable, HardwareIdError::Ambiguous]
        .map(|fault| fault.to_string());
    assert_eq!(
        words,
        [
            "the field has no value",
            "not a hardware ID: write six bytes in hexadecimal, as in 009033010203",
            "the field names several devices",
        ]
    );
}
