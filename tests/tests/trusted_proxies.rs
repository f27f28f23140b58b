//! Whose request it is where proxies stand before the gateway (L402-65, SEC-11): limits count for the client that a
//! trusted proxy names, and for nobody that a client names itself.

use farthing_tests::gateway::Gateway;
use farthing_tests::http::{self, Answer};
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::upstream::Upstream;

/// Two unpaid requests a minute for each source.
const TIGHT: &str = "limits: { unpaid: { per_ip: 2/min } }\n";

fn gateway(upstream: &Upstream, trusted: &str) -> Gateway {
    let server = format!("server: {{ listen: [\"{{address}}\"], threads: 2{trusted} }}\n{TIGHT}");
    Gateway::start(upstream.address, &server)
}

fn ask_as(gateway: &Gateway, fields: &[(&str, &str)]) -> Answer {
    http::post(gateway.address, CHAT, fields, &ask())
}

#[test]
fn l402_65_a_trusted_proxy_names_the_client() {
    let upstream = Upstream::friendly();
    let gateway = gateway(&upstream, ", trusted_proxies: [127.0.0.0/8]");
    let from = |client: &str| ask_as(&gateway, &[("x-forwarded-for", client)]).status;
    for client in ["198.51.100.1", "198.51.100.2", "2001:db8:0:1::1"] {
        assert_eq!([from(client), from(client), from(client)], [402, 402, 429], "{client}");
    }
    // What the client has written in front is not looked at, and its network of IPv6 is one source.
    assert_eq!(from("1.1.1.1, 198.51.100.1"), 429);
    assert_eq!(from("2001:db8:0:1:ffff::9"), 429);
    assert_eq!(from("2001:db8:0:2::9"), 402);
    // Headers that cannot be read are one source, the proxy's own, whatever they say.
    let odd = ["unknown", "", "a, b", "999.1.1.1", "198.51.100.3,"];
    let statuses: Vec<u16> = odd.iter().map(|value| from(value)).collect();
    assert_eq!(statuses, [402, 402, 429, 429, 429]);
    let both = [("x-forwarded-for", "198.51.100.4"), ("forwarded", "for=198.51.100.4")];
    assert_eq!(ask_as(&gateway, &both).status, 429);
    assert_eq!(ask_as(&gateway, &[("forwarded", "for=198.51.100.4;proto=https")]).status, 402);
}

#[test]
fn l402_65_nobody_else_does() {
    let upstream = Upstream::friendly();
    for trusted in ["", ", trusted_proxies: [10.0.0.0/8]"] {
        let gateway = gateway(&upstream, trusted);
        let statuses: Vec<u16> = (1..=4)
            .map(|number| {
                let client = format!("198.51.100.{number}");
                let standard = format!("for={client}");
                ask_as(
                    &gateway,
                    &[("x-forwarded-for", &client), ("forwarded", &standard), ("x-real-ip", &client)],
                )
                .status
            })
            .collect();
        assert_eq!(statuses, [402, 402, 429, 429], "{trusted}");
    }
}
