//! Tests of the index of dead letters.

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn letter(error: &str, time: u64) -> Letter {
    Letter {
        cause: "rejected".into(),
        origin: Some("orders".into()),
        error: Some(error.into()),
        time,
        ..Letter::default()
    }
}

fn extent(log: u16, next: u64, live: &[(u64, u64)]) -> Extent {
    Extent { log, next: Offset(next), live: live.iter().map(|(a, b)| (Offset(*a), Offset(*b))).collect() }
}

fn index(letters_max: usize, cells_max: usize) -> Index {
    Index::new(Bounds { letters_max, cells_max })
}

fn tag(offset: u64) -> Tag {
    Tag::new(0, Offset(offset))
}

fn counts(index: &Index, asked: &Asked) -> Vec<(String, u64)> {
    let groups = index.groups(asked, 99).groups;
    groups.into_iter().map(|group| (group.error.unwrap_or_default(), group.messages)).collect()
}

/// Four letters of two groups: every second one has no stock.
fn filled() -> Index {
    let mut index = index(100, 100);
    assert_eq!(index.see(&name("d"), Some(vec![extent(0, 4, &[(0, 3)])])), [(0, Offset(0), Offset(4))]);
    for offset in 0..4 {
        let error = if offset % 2 == 0 {
            format!("no stock for {offset}")
        } else {
            format!("card {offset} declined")
        };
        assert!(index.note(&name("d"), tag(offset), &letter(&error, 10 + offset)));
    }
    index
}

#[test]
fn letters_are_counted_by_group_with_first_and_last_time() {
    let index = filled();
    let all = index.groups(&Asked::default(), 99);
    assert_eq!((all.messages, all.other, all.unread, all.more), (4, 0, 0, false));
    let stock =
        all.groups.iter().find(|group| group.error.as_deref() == Some("no stock for <number>")).expect("it");
    assert_eq!(
        (stock.messages, stock.first, stock.last, stock.sample.as_deref()),
        (2, 10, 12, Some("no stock for 0"))
    );
    assert_eq!((stock.queues["d"], stock.origins["orders"]), (2, 2));
    assert!(index.groups(&Asked::default(), 1).more);
}

#[test]
fn what_is_done_is_not_counted_any_more() {
    let mut index = filled();
    let d = name("d");
    assert!(index.see(&d, Some(vec![extent(0, 4, &[(1, 1), (3, 3)])])).is_empty());
    assert_eq!(counts(&index, &Asked::default()), [("card <number> declined".to_owned(), 2)]);
    assert_eq!(index.see(&d, Some(vec![extent(0, 6, &[(3, 5)])])), [(0, Offset(4), Offset(6))]);
    let unread = index.groups(&Asked::default(), 9);
    assert_eq!((unread.messages, unread.unread), (3, 2));
    index.note(&d, tag(4), &letter("no stock for 9", 1));
    index.see(&d, Some(vec![extent(0, 6, &[])]));
    assert_eq!((counts(&index, &Asked::default()), index.letters), (vec![], 0));
    index.see(&d, None);
    assert_eq!(index.queues().count(), 0);
}

#[test]
fn members_of_a_group_come_in_order_and_page_by_page() {
    let index = filled();
    let group = index
        .groups(&Asked::default(), 9)
        .groups
        .iter()
        .find(|g| g.error.as_deref() == Some("no stock for <number>"))
        .expect("it")
        .id
        .clone();
    let asked = Asked { group: Some(group), ..Asked::default() };
    assert_eq!(index.members(&name("d"), &asked, None, 1), (vec![tag(0)], true));
    assert_eq!(index.members(&name("d"), &asked, Some(tag(1)), 1), (vec![tag(2)], false));
    assert_eq!(index.members(&name("d"), &asked, Some(tag(3)), 1), (vec![], false));
    assert_eq!(index.members(&name("e"), &asked, None, 1), (vec![], false));
}

#[test]
fn past_cells_max_letters_are_others_until_a_group_is_empty() {
    let mut index = index(100, 2);
    let d = name("d");
    index.see(&d, Some(vec![extent(0, 9, &[(0, 8)])]));
    for (offset, error) in ["a", "b", "c"].into_iter().enumerate() {
        index.note(&d, tag(offset as u64), &letter(error, 1));
    }
    assert_eq!((counts(&index, &Asked::default()).len(), index.groups(&Asked::default(), 9).other), (2, 1));
    index.see(&d, Some(vec![extent(0, 9, &[(1, 8)])]));
    index.note(&d, tag(3), &letter("d", 1));
    let mut left = counts(&index, &Asked::default());
    left.sort_unstable();
    assert_eq!(left, [("b".to_owned(), 1), ("d".to_owned(), 1)]);
}

#[test]
fn past_letters_max_nothing_more_is_noted_and_that_is_told() {
    let mut index = index(2, 9);
    let d = name("d");
    index.see(&d, Some(vec![extent(0, 3, &[(0, 2)])]));
    assert!(index.note(&d, tag(0), &letter("a", 1)) && index.note(&d, tag(1), &letter("a", 1)));
    assert!(!index.note(&d, tag(2), &letter("a", 1)));
    let groups = index.groups(&Asked::default(), 9);
    assert_eq!((groups.messages, groups.unread), (3, 1));
    index.see(&d, Some(vec![extent(0, 3, &[(1, 2)])]));
    assert!(index.note(&d, tag(2), &letter("a", 1)), "there is room again");
}
