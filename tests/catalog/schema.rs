use std::time::Duration;

use store::catalog::{Catalog, CatalogError};

use crate::place::Place;

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let place = Place::empty().await;
    place.catalog.migrate().await.unwrap();
    let applied = place.number("select count(*) from _sqlx_migrations").await;
    place.catalog.migrate().await.unwrap();
    assert_eq!(place.number("select count(*) from _sqlx_migrations").await, applied);
    place.catalog.check_schema().await.unwrap();
}

#[tokio::test]
async fn a_catalog_keeps_its_identity_and_no_other_has_it() {
    let place = Place::empty().await;
    place.catalog.migrate().await.unwrap();
    let identity = place.catalog.identity().await.unwrap();
    place.catalog.migrate().await.unwrap();
    assert_eq!(place.catalog.identity().await.unwrap(), identity);

    // As a copy from before there were identities is when it is brought back.
    place.execute("drop table catalog_identity; delete from _sqlx_migrations where version >= 9").await;
    place.catalog.migrate().await.unwrap();
    assert_eq!(place.catalog.identity().await.unwrap(), identity);

    let other = Place::empty().await;
    other.catalog.migrate().await.unwrap();
    assert_ne!(other.catalog.identity().await.unwrap(), identity);
}

#[tokio::test]
async fn two_processes_may_migrate_at_the_same_time() {
    let place = Place::empty().await;
    let other = place.other_process().await;
    let (one, another) = tokio::join!(place.catalog.migrate(), other.migrate());
    one.unwrap();
    another.unwrap();
    other.check_schema().await.unwrap();
}

#[tokio::test]
async fn an_empty_database_is_refused_with_the_command_that_helps() {
    let place = Place::empty().await;
    let error = place.catalog.check_schema().await.unwrap_err();
    assert!(matches!(error, CatalogError::SchemaVersion { found: 0, wanted: 1.. }), "{error:?}");
    assert!(error.to_string().contains("run `tipstaff-operator migrate` first"), "{error}");
}

/// As after an upgrade, for the programs of before it, and for those that a rollback brings back.
#[tokio::test]
async fn a_newer_schema_is_worked_with_for_as_long_as_it_fits() {
    let place = Place::new().await;
    place
        .execute(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (9000, 'only adds', true, '', 0)",
        )
        .await;
    place.catalog.check_schema().await.unwrap();
    place.catalog.migrate().await.unwrap();

    place.execute("update schema_support set oldest_program = 9000").await;
    for refused in [place.catalog.check_schema().await, place.catalog.migrate().await] {
        let error = refused.unwrap_err();
        assert!(matches!(error, CatalogError::SchemaVersion { found: 9_000, .. }), "{error:?}");
        assert!(error.to_string().contains("use a newer release"), "{error}");
    }
    // What was begun and not ended is no version.
    place.execute("update _sqlx_migrations set success = false where version = 9000").await;
    place.catalog.check_schema().await.unwrap();
}

#[tokio::test]
async fn a_migration_that_was_changed_after_it_was_applied_is_refused() {
    let place = Place::new().await;
    place.execute("update _sqlx_migrations set checksum = 'other'").await;
    let error = place.catalog.migrate().await.unwrap_err();
    assert!(matches!(error, CatalogError::Migrate(_)), "{error:?}");
}

#[tokio::test]
async fn ping_tells_a_database_that_is_there_from_one_that_is_gone() {
    let place = Place::new().await;
    place.catalog.ping().await.unwrap();
    place.drop_database().await;
    let error = place.catalog.ping().await.unwrap_err();
    assert!(matches!(error, CatalogError::Statement { action: "answer", .. }), "{error:?}");
}

#[tokio::test]
async fn a_database_that_cannot_be_had_is_an_error_without_its_password() {
    let connect = async |url: &str| {
        let error = Catalog::connect(url, 1, Duration::from_millis(300)).await.unwrap_err();
        assert!(!events::error_chain(&error).contains("hidden"), "{error:?}");
        error
    };
    for url in [
        "hidden",
        "user:hidden@127.0.0.1/x",
        "mysql://user:hidden@127.0.0.1/x",
        "postgres://user:hidden@:x:/",
    ] {
        let error = connect(url).await;
        assert!(matches!(error, CatalogError::Url(_)), "{error:?}");
    }
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = connect(&format!("postgres://user:hidden@{nobody}/x")).await;
    assert!(matches!(error, CatalogError::Connect(_)), "{error:?}");
}
