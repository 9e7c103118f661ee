//! Every cell of the table in the docs, and what the table cannot say.

use super::*;

/// The table of `docs/roles.md`, as people read it: (role, action, cell).
fn documented() -> Vec<(Role, Action, Grant)> {
    let text = include_str!("../../../../docs/roles.md");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let (head, body) = rows.split_first().expect("docs/roles.md holds the table");
    let roles: Vec<Role> = head[1..].iter().map(|name| name.parse().expect("the head names roles")).collect();
    assert_eq!(roles, Role::ALL, "the table has a column for every role, in order");
    let mut cells = Vec::new();
    let mut actions = Vec::new();
    // The row below the head is the rule of the Markdown table.
    for row in &body[1..] {
        assert_eq!(row.len(), roles.len() + 1, "row {row:?} has a cell for every role");
        let action = Action::ALL.into_iter().find(|a| a.name() == row[0]).expect("the row names an action");
        actions.push(action);
        for (role, cell) in roles.iter().zip(&row[1..]) {
            let grant = match *cell {
                "all" => Grant::All,
                "own" => Grant::Own,
                "–" => Grant::No,
                other => panic!("{role} x {action}: {other:?} is not all, own or –"),
            };
            cells.push((*role, action, grant));
        }
    }
    assert_eq!(actions, Action::ALL, "the table has a row for every action, in order");
    cells
}

fn user(role: Role) -> Principal {
    Principal { name: "budi".into(), roles: vec![role], opd: None }
}

/// Every resource, with whether it is `budi`'s (`None`: the site).
fn resources() -> [(Resource<'static>, Option<bool>); 7] {
    [
        (Resource::Site, None),
        (Resource::Bucket { name: "b", owner: "budi" }, Some(true)),
        (Resource::Bucket { name: "b", owner: "siti" }, Some(false)),
        (Resource::Object { bucket: "b", owner: "budi", key: "k" }, Some(true)),
        (Resource::Object { bucket: "b", owner: "siti", key: "k" }, Some(false)),
        (Resource::User("budi"), Some(true)),
        (Resource::User("siti"), Some(false)),
    ]
}

#[test]
fn every_cell_of_the_documented_table_holds_on_every_resource() {
    let cells = documented();
    assert_eq!(cells.len(), Role::ALL.len() * Action::ALL.len());
    for (role, action, cell) in cells {
        assert_eq!(grant(role, action), cell, "{role} x {action}");
        for (on, own) in resources() {
            let wanted = action.fits(on)
                && match (cell, own) {
                    (Grant::No, _) | (Grant::Own, Some(false)) => false,
                    (Grant::All, _) | (Grant::Own, Some(true)) => true,
                    (Grant::Own, None) => matches!(
                        action,
                        Action::ListBuckets
                            | Action::CreateBucket
                            | Action::RunSql
                            | Action::ReadSystemTables
                    ),
                };
            assert_eq!(authorize(&user(role), action, on).is_ok(), wanted, "{role} x {action} on {on}");
        }
    }
}

#[test]
fn i5_nobody_gets_nothing_not_even_what_nobody_owns() {
    for action in Action::ALL {
        for on in
            [Resource::Site, Resource::Bucket { name: "b", owner: "anonymous" }, Resource::User("anonymous")]
        {
            assert!(authorize(&Principal::anonymous(), action, on).is_err(), "{action} on {on}");
            let roleless = Principal { name: "budi".into(), roles: vec![], opd: None };
            assert!(authorize(&roleless, action, on).is_err(), "{action} on {on} without a role");
            // A role that owns things, borne by nobody.
            let odd = Principal { roles: vec![Role::Sistem], ..Principal::anonymous() };
            let own = on.owner().is_some();
            assert!(!own || authorize(&odd, action, on).is_err(), "{action} on {on} as anonymous sistem");
        }
    }
}

#[test]
fn the_best_of_several_roles_counts() {
    let who = Principal { name: "budi".into(), roles: vec![Role::Auditor, Role::Sistem], opd: None };
    let own = Resource::Object { bucket: "b", owner: "budi", key: "k" };
    assert!(authorize(&who, Action::PutObject, own).is_ok());
    assert!(authorize(&who, Action::ReadStatus, Resource::Site).is_ok());
    assert!(authorize(&who, Action::ManageUsers, Resource::Site).is_err());
}

#[test]
fn i5_a_denial_names_who_and_what_but_no_key() {
    let on = Resource::Object { bucket: "rahasia", owner: "siti", key: "gaji/2026.csv" };
    let denied = authorize(&user(Role::Sistem), Action::GetObject, on).expect_err("it is another's");
    let text = denied.to_string();
    assert!(text.contains("budi") && text.contains("GetObject") && text.contains("rahasia"), "{text}");
    assert!(!text.contains("gaji"), "{text}");
}
