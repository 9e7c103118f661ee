//! The configuration as operators meet it.

use super::*;

fn said(text: &str, variables: &[(&str, &str)]) -> String {
    let variables: Vec<_> = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    match parse(text, &variables) {
        Ok(_) => "fine".into(),
        Err(e) => format!("{e:#}"),
    }
}

#[test]
fn commented_defaults_are_the_defaults() {
    let printed = commented_defaults();
    let from_print = parse(&printed, &[]).expect("what we print, we read");
    let from_nothing = parse("", &[]).expect("defaults alone are a configuration");
    assert_eq!(from_print, from_nothing);
}

#[test]
fn schema_and_struct_hold_the_same_keys() {
    let config = parse("", &[]).expect("defaults alone are a configuration");
    let table = toml::Table::try_from(&config).expect("a configuration is a table of tables");
    let mut of_struct: Vec<String> = Vec::new();
    for (section, keys) in &table {
        let keys = keys.as_table().expect("sections are tables");
        of_struct.extend(keys.keys().map(|key| format!("{section}.{key}")));
    }
    let mut of_schema: Vec<String> = schema::KEYS.iter().map(schema::Key::path).collect();
    of_struct.sort();
    of_schema.sort();
    assert_eq!(of_struct, of_schema);
    for key in schema::KEYS {
        assert_eq!(key.check(&key.default_value()), Ok(()), "default of {}", key.path());
        assert!(!key.doc.is_empty() && schema::SECTIONS.iter().any(|(name, _)| *name == key.section));
    }
}

#[test]
fn wrong_keys_are_named_with_what_was_meant() {
    let check = |text: &str, variables: &[(&str, &str)], expected: &str| {
        let said = said(text, variables);
        assert!(said.contains(expected), "{text} {variables:?}\nsays     {said}\nexpected {expected}");
    };
    check("", &[], "fine");
    check("[limits]\nsqlmib = 1", &[], "unknown key `limits.sqlmib`; did you mean `limits.sql_mib`?");
    check("[node]\nsql_mib = 1", &[], "did you mean `limits.sql_mib`?");
    check("[limit]\nsql_mib = 1", &[], "unknown section [limit]; did you mean [limits]?");
    check("sql_mib = 1", &[], "`sql_mib` stands outside of a section");
    check("[limits]\nsql_mib = 1", &[], "`limits.sql_mib` is 1, it must be a whole number from 16 to");
    check("[limits]\nsql_mib = \"many\"", &[], "it must be a whole number");
    check("[listen]\ns3 = \"7400\"", &[], "it must be a text like \"127.0.0.1:7400\"");
    check("[listen]\ns3 = \"127.0.0.1:7401\"", &[], "both 127.0.0.1:7401");
    check("[listen]\ns3 = \"0.0.0.0:7400\"", &[], "set `advertise.host`");
    check("[log]\nformat = \"xml\"", &[], "one of auto, human, json");
    check("[tls]\ncert_file = \"x\"", &[], "go together");
    check("[keys]\nroot_key_file = \"x\"\nsealed_root_file = \"y\"", &[], "keep one");
    check("[node\n", &[], "it is not TOML");
    check("", &[("BENTENG_LIMITS__SQL_MIB", "200")], "fine");
    check("", &[("BENTENG_LIMITS__SQL_MIB", "lots")], "`BENTENG_LIMITS__SQL_MIB` is \"lots\"");
    check("", &[("BENTENG_LIMITS__SQLMIB", "1")], "did you mean BENTENG_LIMITS__SQL_MIB?");
    check("", &[("BENTENG_ADMIN_URL", "http://x")], "fine");
    let two = said("[node]\nnam = \"a\"\nzon = \"b\"", &[]);
    assert!(
        two.contains("node.nam`") && two.contains("node.zon`"),
        "all that is wrong is said at once: {two}"
    );
}

#[test]
fn environment_wins_over_the_file() {
    let variables = [("BENTENG_S3__DOMAINS".to_owned(), "a.test, b.test".to_owned())];
    let config =
        parse("[s3]\ndomains = [\"c.test\"]\n[node]\nname = \"n\"", &variables).expect("both are right");
    assert_eq!(config.s3.domains, ["a.test", "b.test"]);
    assert_eq!(config.node.name, "n");
}

#[test]
fn advertised_addresses_name_a_host() {
    let mut config = parse("", &[]).expect("defaults alone are a configuration");
    assert_eq!(config.advertised("127.0.0.1:7400"), "127.0.0.1:7400");
    config.advertise.host = "store.test".into();
    assert_eq!(config.advertised("0.0.0.0:7400"), "store.test:7400");
    config.advertise.host = "fd00::1".into();
    assert_eq!(config.advertised("[::]:7400"), "[fd00::1]:7400");
    for (listen, loopback) in [
        ("127.0.0.1:1", true),
        ("[::1]:1", true),
        ("localhost:1", true),
        ("0.0.0.0:1", false),
        ("10.0.0.1:1", false),
    ] {
        assert_eq!(is_loopback(listen), loopback, "{listen}");
    }
}
