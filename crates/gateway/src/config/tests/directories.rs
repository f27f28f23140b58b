//! `identity.directories`: whose are fetched, and what is said of the rest.

use proof::identity::Origin;
use proof::identity::directory::Unsigned;
use rails::directory::{Allow, Settings};

use super::check;
use crate::identity;

fn file(identity: &str) -> String {
    format!(
        "mode: test\nserver: {{ public_url: \"https://gw.example\" }}\n\
         upstreams: {{ a: {{ url: \"https://models.example\", dialect: openai }} }}\n\
         prices: {{ \"*\": {{ per_call: 1 USD }} }}\nrails: {{ test: {{}} }}\nidentity: {{ {identity} }}\n"
    )
}

fn settings(identity: &str) -> Settings {
    identity::settings(&check(&file(identity)).unwrap())
}

/// IDN-15, IDN-18
#[test]
fn idn_15_nobody_is_asked_who_was_not_allowed() {
    let named = "keyring: [{ name: bot, origin: \"https://bot.dev:8443\" }]";
    // Who is permitted: an agent below example, one of anybody's, the one that is named, ourselves, our upstream.
    for (identity, expected) in [
        ("keyring: []", [false; 5]),
        (named, [false, false, true, false, false]),
        ("directories: { allow: [agents.example] }", [true, false, false, false, false]),
        ("directories: { allow: any }", [true, true, false, false, false]),
        (
            &format!("{named}, directories: {{ allow: [agents.example, gw.example, models.example] }}"),
            [true, false, true, false, false],
        ),
    ] {
        let hosts = settings(identity).hosts;
        let asked = [
            "https://a.agents.example",
            "https://x.com",
            "https://bot.dev:8443",
            "https://gw.example",
            "https://models.example",
        ];
        let permitted = asked.map(|origin| hosts.permit(&Origin::parse(origin).unwrap()));
        assert_eq!(permitted, expected, "{identity}");
    }
}

#[test]
fn every_key_of_directories_arrives() {
    let usual = settings("directories: { allow: any }");
    assert_eq!((usual.hosts.allow, usual.hosts.ports), (Allow::Any { per_hour: 60 }, vec![443]));
    assert_eq!(usual.unsigned, Unsigned::Refuse);
    let own = settings("directories: { allow: any, per_hour: 5, ports: [443, 8443], unsigned: accept }");
    assert_eq!((own.hosts.allow, own.hosts.ports), (Allow::Any { per_hour: 5 }, vec![443, 8443]));
    assert_eq!(own.unsigned, Unsigned::Accept);
}

#[test]
fn what_cannot_be_meant_of_directories_is_said() {
    for (directories, expected) in [
        ("{}", "needs \"allow\""),
        ("{ allow: [any, a.example] }", "any is everybody already"),
        ("{ allow: [a.example], per_hour: 5 }", "these are named"),
        ("{ allow: example }", "is no host name"),
        ("{ allow: \"https://a.example\" }", "is no host name"),
        ("{ allow: A.example }", "is no host name"),
        ("{ allow: any, ports: 0 }", "is no port"),
        ("{ allow: any, unsigned: maybe }", "neither refuse nor accept"),
        ("{ allowed: any }", "unknown key"),
    ] {
        let errors =
            check(&file(&format!("directories: {directories}"))).map(|_| ()).unwrap_err().to_string();
        assert!(errors.contains(expected), "{directories}: {errors}");
    }
}
