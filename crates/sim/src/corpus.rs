//! Messages that others wrote to torture parsers: RFC 4475 and RFC 5118, as the parser's own tests have them.

/// Each as it travels.
pub(crate) const TORTURE: [&[u8]; 16] = [
    include_bytes!("../../wire/tests/sip_torture/badinv01.sip"),
    include_bytes!("../../wire/tests/sip_torture/bcast.sip"),
    include_bytes!("../../wire/tests/sip_torture/clerr.sip"),
    include_bytes!("../../wire/tests/sip_torture/dblreq.sip"),
    include_bytes!("../../wire/tests/sip_torture/escnull.sip"),
    include_bytes!("../../wire/tests/sip_torture/escruri.sip"),
    include_bytes!("../../wire/tests/sip_torture/intmeth.sip"),
    include_bytes!("../../wire/tests/sip_torture/ipv6-bug-abnf-3-colons.sip"),
    include_bytes!("../../wire/tests/sip_torture/longreq.sip"),
    include_bytes!("../../wire/tests/sip_torture/mpart01.sip"),
    include_bytes!("../../wire/tests/sip_torture/multi01.sip"),
    include_bytes!("../../wire/tests/sip_torture/ncl.sip"),
    include_bytes!("../../wire/tests/sip_torture/regaut01.sip"),
    include_bytes!("../../wire/tests/sip_torture/scalar02.sip"),
    include_bytes!("../../wire/tests/sip_torture/unreason.sip"),
    include_bytes!("../../wire/tests/sip_torture/wsinv.sip"),
];
