//! Which network an address belongs to, and which networks a peer may send us to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU8, Ordering};

/// How near an address is: a peer must not lead the client nearer to itself than the registry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Reach {
    /// Anything else.
    Public = 1,
    /// RFC 1918, RFC 4193, RFC 6598.
    Private = 2,
    /// This machine.
    Loopback = 3,
    /// 169.254/16 and fe80::/10, where cloud machines find their metadata.
    LinkLocal = 4,
}

pub(crate) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).map_or_else(|| reach_v6(v6), reach_v4),
    }
}

fn reach_v4(v4: Ipv4Addr) -> Reach {
    let [a, b, _, _] = v4.octets();
    if v4.is_loopback() || a == 0 {
        Reach::Loopback
    } else if v4.is_link_local() {
        Reach::LinkLocal
    } else if v4.is_private()
        || (a == 100 && (64..128).contains(&b))
        || v4.is_broadcast()
        || v4.is_multicast()
    {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn reach_v6(v6: Ipv6Addr) -> Reach {
    let first = v6.segments().first().copied().unwrap_or(0);
    if v6.is_loopback() || v6.is_unspecified() {
        Reach::Loopback
    } else if first & 0xffc0 == 0xfe80 {
        Reach::LinkLocal
    } else if first & 0xfe00 == 0xfc00
        || first & 0xffc0 == 0xfec0
        || v6.is_multicast()
        // NAT64 of one's own network (RFC 8215): what is inside depends on how it is set up.
        || matches!(v6.segments(), [0x64, 0xff9b, 1, ..])
    {
        Reach::Private
    } else {
        Reach::Public
    }
}

/// The IPv4 address inside a mapped (::ffff:0:0/96), NAT64 (64:ff9b::/96, and 64:ff9b:1::/96 of one's own network,
/// RFC 8215) or 6to4 (2002::/16) address.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, a, b]
        | [0x64, 0xff9b, 0, 0, 0, 0, a, b]
        | [0x64, 0xff9b, 1, 0, 0, 0, a, b]
        | [0x2002, a, b, ..] => Some(Ipv4Addr::from((u32::from(a) << 16) | u32::from(b))),
        _ => None,
    }
}

/// Where the registry was last reached: learned from the connected address.
#[derive(Debug, Default)]
pub(crate) struct Home(AtomicU8);

impl Home {
    pub(crate) fn learn(&self, address: IpAddr) {
        self.0.store(reach(address) as u8, Ordering::Relaxed);
    }

    /// The addresses a peer of this registry may lead to.
    pub(crate) fn rule(&self) -> Rule {
        match self.0.load(Ordering::Relaxed) {
            n if n == Reach::Private as u8 => Rule {
                private: true,
                ..Rule::PUBLIC
            },
            n if n == Reach::Loopback as u8 => Rule {
                private: true,
                loopback: true,
                ..Rule::PUBLIC
            },
            n if n == Reach::LinkLocal as u8 => Rule {
                private: true,
                link_local: true,
                ..Rule::PUBLIC
            },
            _ => Rule::PUBLIC,
        }
    }
}

/// Which addresses besides public ones a connection may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    private: bool,
    loopback: bool,
    link_local: bool,
}

impl Rule {
    /// No address is refused.
    pub(crate) const ANY: Rule = Rule {
        private: true,
        loopback: true,
        link_local: true,
    };
    /// Only public addresses.
    pub(crate) const PUBLIC: Rule = Rule {
        private: false,
        loopback: false,
        link_local: false,
    };

    pub(crate) fn allows(self, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => true,
            Reach::Private => self.private,
            Reach::Loopback => self.loopback,
            Reach::LinkLocal => self.link_local,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reaches() {
        for (text, want) in [
            ("127.0.0.1", Reach::Loopback),
            ("127.8.8.8", Reach::Loopback),
            ("0.0.0.0", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("::", Reach::Loopback),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("64:ff9b::a00:1", Reach::Private),
            ("64:ff9b:1::a00:1", Reach::Private),
            ("64:ff9b:1::808:808", Reach::Public),
            ("64:ff9b:1:c0a8:1:100:808:808", Reach::Private),
            ("2002:7f00:1::", Reach::Loopback),
            ("169.254.169.254", Reach::LinkLocal),
            ("fe80::1", Reach::LinkLocal),
            ("10.0.0.1", Reach::Private),
            ("172.16.0.1", Reach::Private),
            ("172.32.0.1", Reach::Public),
            ("192.168.1.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("fc00::1", Reach::Private),
            ("fd12::1", Reach::Private),
            ("8.8.8.8", Reach::Public),
            ("2606:4700::1", Reach::Public),
        ] {
            assert_eq!(reach(text.parse().unwrap()), want, "{text}");
        }
    }

    #[test]
    fn a_registry_leads_no_nearer_than_it_is() {
        let addresses = ["8.8.8.8", "10.0.0.1", "127.0.0.1", "169.254.169.254"];
        for (home, want) in [
            (None, [true, false, false, false]),
            (Some("8.8.8.8"), [true, false, false, false]),
            (Some("10.9.9.9"), [true, true, false, false]),
            (Some("127.0.0.1"), [true, true, true, false]),
            (Some("169.254.1.1"), [true, true, false, true]),
        ] {
            let learned = Home::default();
            if let Some(address) = home {
                learned.learn(address.parse().unwrap());
            }
            let got = addresses.map(|a| learned.rule().allows(a.parse().unwrap()));
            assert_eq!(got, want, "{home:?}");
        }
    }
}
