//! Do users and permissions hold what they say, at once and over a restart?

use std::{future::Future, path::Path, sync::Arc};

use tokio::sync::oneshot;
use waystation_access::{
    Access, Action, Algorithm, Credential, Error, GUEST, LimitsChange, LoginError, PASSWORD_BYTES_MAX,
    Permission, Tags, TokenEntry, TopicPermission, USER_NAME_BYTES_MAX, UserChange, new_token,
};
use waystation_base::os::{OsClock, OsDisk};
use waystation_host::{Broker, Options};

/// Runs `test` against a broker on `dir`, and ends it in good order.
async fn with<F: Future<Output = ()>>(dir: &Path, test: impl FnOnce(Broker, Access) -> F) {
    let (broker, driver, _) =
        waystation_host::open(Options::new(dir), Arc::new(OsDisk), Arc::new(OsClock)).expect("opened");
    let (stop, stopped) = oneshot::channel::<()>();
    let driver = tokio::spawn(driver.run(async { drop(stopped.await) }));
    let access = Access::new(vec![]).expect("no tokens");
    access.load(&broker).await.expect("loaded");
    test(broker, access).await;
    drop(stop);
    driver.await.expect("joined").expect("ended well");
}

fn user(name: &str, password: &str, tags: &str) -> UserChange {
    let credential = Credential::Password(password.to_owned());
    UserChange {
        name: name.to_owned(),
        credential,
        tags: Some(Tags::parse(tags)),
        limits: LimitsChange::default(),
    }
}

fn permission(name: &str, vhost: &str, write: &str) -> Permission {
    Permission {
        user: name.to_owned(),
        vhost: vhost.to_owned(),
        configure: String::new(),
        write: write.to_owned(),
        read: ".*".to_owned(),
    }
}

#[tokio::test]
async fn a_user_may_do_what_its_permissions_say_and_still_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    with(dir.path(), |broker, access| async move {
        assert_eq!(access.put_user(&broker, user("shop", "secret", "management")).await, Ok(true));
        assert_eq!(access.put_user(&broker, user("shop", "secret", "")).await, Ok(false));
        let nobody = access.put_permission(&broker, permission("nobody", "v", "")).await;
        assert_eq!(nobody, Err(Error::Unknown("nobody".into())));
        assert_eq!(access.put_permission(&broker, permission("shop", "v", "^orders")).await, Ok(true));
        let wrong = access.put_permission(&broker, permission("shop", "v", "(")).await;
        assert!(matches!(wrong, Err(Error::Expression { field: "write", .. })), "{wrong:?}");
    })
    .await;
    with(dir.path(), |broker, access| async move {
        assert_eq!(access.login("shop", "Secret", true).await.err(), Some(LoginError::Refused));
        assert_eq!(access.login("nobody", "secret", true).await.err(), Some(LoginError::Refused));
        let shop = access.login("shop", "secret", false).await.expect("let in");
        assert!(shop.may_enter("v") && !shop.may_enter("/"));
        assert!(shop.may(Action::Write, "v", "orders.eu") && !shop.may(Action::Write, "v", "bills"));
        assert!(!shop.may(Action::Write, "/", "orders"));
        assert!(shop.may_all(Action::Write, "v::orders.eu") && !shop.may_all(Action::Write, "orders.eu"));
        assert!(shop.may_all(Action::Read, "v::orders.#") && !shop.may_all(Action::Write, "v::orders.#"));
        assert!(!shop.may_all(Action::Read, "#"), "that reaches other virtual hosts");
        let before = access.generation();
        assert_eq!(access.delete_permission(&broker, "v", "shop").await, Ok(true));
        assert_eq!(access.delete_permission(&broker, "v", "shop").await, Ok(false));
        assert!(access.generation() > before);
        assert!(!shop.may_enter("v"), "it takes effect at once");
        access.delete_users(&broker, &["shop"]).await.expect("deleted");
        assert!(!shop.is_known());
    })
    .await;
    with(dir.path(), |_, access| async move {
        assert_eq!(access.login("shop", "secret", true).await.err(), Some(LoginError::Refused));
    })
    .await;
}

#[tokio::test]
async fn the_guest_comes_from_this_machine_only_and_goes_when_an_administrator_comes() {
    let dir = tempfile::tempdir().expect("a folder");
    with(dir.path(), |broker, access| async move {
        assert_eq!(access.login(GUEST, GUEST, false).await.err(), Some(LoginError::LoopbackOnly));
        assert_eq!(access.login(GUEST, "wrong", true).await.err(), Some(LoginError::Refused));
        let guest = access.login(GUEST, GUEST, true).await.expect("let in");
        assert!(guest.tags().is_administrator() && guest.may(Action::Configure, "any", "thing"));
        access.put_user(&broker, user("plain", "x", "")).await.expect("made");
        assert!(guest.is_known());
        access.put_user(&broker, user("root", "x", "administrator")).await.expect("made");
        assert!(!guest.is_known() && !guest.may(Action::Read, "/", "x"));
        assert_eq!(access.login(GUEST, GUEST, true).await.err(), Some(LoginError::Refused));
    })
    .await;
}

#[tokio::test]
async fn a_guest_that_is_kept_is_an_ordinary_user_with_the_default_host() {
    let dir = tempfile::tempdir().expect("a folder");
    with(dir.path(), |broker, access| async move {
        access.keep_guest(&broker).await.expect("kept");
        access.put_user(&broker, user("root", "x", "administrator")).await.expect("made");
        let guest = access.login(GUEST, GUEST, true).await.expect("let in");
        assert!(guest.tags().is_administrator() && guest.may_enter("/") && !guest.may_enter("v"));
        assert_eq!(access.users().len(), 2);
        access.delete_users(&broker, &[GUEST]).await.expect("deleted");
        assert!(!guest.is_known());
    })
    .await;
}

#[tokio::test]
async fn topic_permissions_narrow_an_exchange_and_go_with_its_host() {
    let dir = tempfile::tempdir().expect("a folder");
    with(dir.path(), |broker, access| async move {
        access.put_user(&broker, user("shop", "x", "")).await.expect("made");
        access.put_permission(&broker, permission("shop", "v", ".*")).await.expect("granted");
        let topic = TopicPermission {
            user: "shop".into(),
            vhost: "v".into(),
            exchange: "amq.topic".into(),
            write: "^{username}".into(),
            read: ".*".into(),
        };
        assert_eq!(access.put_topic_permission(&broker, topic.clone()).await, Ok(true));
        let shop = access.login("shop", "x", false).await.expect("let in");
        assert!(shop.may_topic(Action::Write, "v", "amq.topic", "shop.1"));
        assert!(!shop.may_topic(Action::Write, "v", "amq.topic", "other.1"));
        assert!(shop.may_topic(Action::Write, "v", "another", "other.1"));
        assert_eq!(access.delete_topic_permissions(&broker, "v", "shop", None).await, Ok(1));
        assert!(shop.may_topic(Action::Write, "v", "amq.topic", "other.1"));
        access.put_topic_permission(&broker, topic).await.expect("granted");
        access.forget_host(&broker, "v").await.expect("gone");
        assert!(access.permissions().iter().all(|it| it.vhost != "v"));
        assert!(access.topic_permissions().is_empty());
        assert!(broker.documents("access/permission/".to_owned()).await.expect("asked").is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_token_is_a_user_with_its_text_as_password() {
    let made = new_token("shop").expect("randomness");
    let publish = vec!["orders.#".to_owned(), "v::orders.#".to_owned()];
    let entry =
        TokenEntry { name: "shop".into(), hash: made.hash, publish, consume: vec![], configure: vec![] };
    let access = Access::new(vec![entry]).expect("good");
    assert_eq!(
        access.login(GUEST, GUEST, true).await.err(),
        Some(LoginError::Refused),
        "tokens end the guest"
    );
    assert_eq!(access.login("other", &made.token, true).await.err(), Some(LoginError::Refused));
    let shop = access.login("shop", &made.token, false).await.expect("let in");
    assert!(shop.may_enter("/") && shop.may_enter("v") && !shop.may_enter("w"));
    assert!(shop.may(Action::Write, "v", "orders.eu") && !shop.may(Action::Read, "v", "orders.eu"));
    assert!(shop.may_publish("/", "", "orders.eu") && !shop.may_publish("/", "", "bills"));
    assert!(!shop.may_publish("/", "bills", "orders.eu"));
    assert!(shop.tags().0.is_empty());
    assert!(access.login_certificate("shop", false).is_ok());
    assert!(access.login_certificate("other", true).is_err());
}

#[tokio::test]
async fn names_passwords_and_hashes_hold_at_their_bounds_and_are_refused_past_them() {
    let check = |name: usize, password: usize| user(&"n".repeat(name), &"p".repeat(password), "").check();
    assert_eq!(check(USER_NAME_BYTES_MAX, PASSWORD_BYTES_MAX), Ok(()));
    assert_eq!(check(USER_NAME_BYTES_MAX + 1, 1), Err(Error::Name(USER_NAME_BYTES_MAX + 1)));
    assert_eq!(check(0, 1), Err(Error::Name(0)));
    assert_eq!(check(1, PASSWORD_BYTES_MAX + 1), Err(Error::Password));
    let hash = |text: &str| Credential::Hash(Algorithm::RabbitSha256, text.to_owned());
    let with = |credential| UserChange { credential, ..user("n", "p", "") }.check();
    assert!(matches!(with(hash("AAAA")), Err(Error::Hash { .. })));
    assert_eq!(with(hash("kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR")), Ok(()));
    assert_eq!(with(hash("")), Ok(()), "no password at all");
}

#[tokio::test]
async fn limits_that_are_changed_at_the_same_time_are_all_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    with(dir.path(), async |broker, access| {
        access.put_user(&broker, user("a", "p", "")).await.expect("new");
        let connections = access.change_limits(&broker, "a", |limits| limits.max_connections = Some(7));
        let channels = access.change_limits(&broker, "a", |limits| limits.max_channels = Some(9));
        assert_eq!(tokio::join!(connections, channels), (Ok(()), Ok(())));
        let limits = access.user("a").expect("there").limits;
        assert_eq!((limits.max_connections, limits.max_channels), (Some(7), Some(9)));
        assert_eq!(access.change_limits(&broker, "b", |_| ()).await, Err(Error::Unknown("b".into())));
    })
    .await;
}
