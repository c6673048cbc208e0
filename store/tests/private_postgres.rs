//! The private server on the machine's own PostgreSQL: a real one each time, in a folder of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, Row};
use store::private_postgres::{PrivatePostgres, PrivatePostgresError, PrivatePostgresOptions, running_url};

fn options(data_dir: &Path) -> PrivatePostgresOptions {
    PrivatePostgresOptions { data_dir: data_dir.to_owned(), port: None, durable: false, max_connections: 20 }
}

async fn connect(server: &PrivatePostgres, database: &str) -> PgConnection {
    PgConnection::connect(&server.url(database)).await.unwrap()
}

fn is_running(pid: u32) -> bool {
    // A zombie whose adopter does not reap it has ended all the same.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited 20 s for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Start, write, crash, start again, read; the folder has one owner at a time.
async fn survives_a_crash_in(data_dir: &Path) {
    let first = PrivatePostgres::start(&options(data_dir)).await.unwrap();
    first.create_database_if_missing("catalog").await.unwrap();
    first.create_database_if_missing("catalog").await.unwrap();
    let mut connection = connect(&first, "catalog").await;
    connection
        .execute("create table kept (value text); insert into kept values ('still here')")
        .await
        .unwrap();

    let refusal = PrivatePostgres::start(&options(data_dir)).await.unwrap_err();
    assert!(
        matches!(&refusal, PrivatePostgresError::InUse { pid, .. } if *pid == std::process::id().to_string()),
        "{refusal}"
    );

    let crashed_pid = first.pid();
    first.kill().await;
    assert!(!is_running(crashed_pid));
    assert!(data_dir.join("cluster/postmaster.pid").exists(), "a crash leaves it");

    let second = PrivatePostgres::start(&options(data_dir)).await.unwrap();
    assert_ne!(second.pid(), crashed_pid);
    let mut connection = connect(&second, "catalog").await;
    let value: String = connection.fetch_one("select value from kept").await.unwrap().get(0);
    assert_eq!(value, "still here");
    let stopped_pid = second.pid();
    second.stop().await;
    assert!(!is_running(stopped_pid));
    assert!(!data_dir.join("cluster/postmaster.pid").exists(), "an orderly stop removes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_survives_a_crash_in_a_closed_folder() {
    // Closed to other users, as root's home is: under root the server's account cannot pass it.
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    survives_a_crash_in(&closed.path().join("postgres")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_survives_a_crash_in_an_open_folder() {
    let open = tempfile::tempdir().unwrap();
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755)).unwrap();
    survives_a_crash_in(&open.path().join("postgres")).await;
}

/// The part above, as a user who is not root: this test's own program, run again.
#[tokio::test(flavor = "multi_thread")]
async fn works_for_a_user_who_is_not_root() {
    let account = fs::metadata("/proc/self").unwrap().uid();
    if account != 0 {
        return data_survives_a_crash_in_home().await;
    }
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = place.path().join("test-program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(&program);
    command
        .args(["--exact", "works_for_a_user_who_is_not_root", "--nocapture"])
        .env("TMPDIR", place.path())
        .current_dir("/")
        .uid(65_534)
        .gid(65_534);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

async fn data_survives_a_crash_in_home() {
    let home = tempfile::tempdir().unwrap();
    survives_a_crash_in(&home.path().join("state/postgres")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_when_dropped_and_leaves_its_folder_usable() {
    let home = tempfile::tempdir().unwrap();
    let server = PrivatePostgres::start(&options(home.path())).await.unwrap();
    let pid = server.pid();
    drop(server);
    until("the dropped server's end", || !is_running(pid)).await;
    let again = PrivatePostgres::start(&options(home.path())).await.unwrap();
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_needs_the_password() {
    let home = tempfile::tempdir().unwrap();
    let server = PrivatePostgres::start(&options(home.path())).await.unwrap();
    let password_file = home.path().join("pgpass");
    assert_eq!(fs::metadata(&password_file).unwrap().mode() & 0o777, 0o600);
    let line = fs::read_to_string(password_file).unwrap();
    let password = line.trim().rsplit(':').next().unwrap();
    assert!(!format!("{server:?}").contains(password));
    assert!(!server.psql_command("postgres").contains(password));

    let url = server.url("postgres");
    assert!(url.contains(password));
    let error = PgConnection::connect(&url.replace(password, "guess")).await.unwrap_err();
    let code = error.as_database_error().unwrap().code().unwrap().into_owned();
    assert_eq!(code, "28P01", "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_what_the_options_say() {
    let home = tempfile::tempdir().unwrap();
    for durable in [false, true] {
        let server = PrivatePostgres::start(&PrivatePostgresOptions { durable, ..options(home.path()) })
            .await
            .unwrap();
        let mut connection = connect(&server, "postgres").await;
        let switch = if durable { "on" } else { "off" };
        for (name, expected) in [
            ("fsync", switch),
            ("synchronous_commit", "on"),
            ("full_page_writes", "on"),
            ("max_connections", "20"),
            ("listen_addresses", "127.0.0.1"),
            ("server_encoding", "UTF8"),
            ("TimeZone", "UTC"),
        ] {
            let value: String = sqlx::query("select current_setting($1)")
                .bind(name)
                .fetch_one(&mut connection)
                .await
                .unwrap()
                .get(0);
            assert_eq!(value, expected, "{name}, durable={durable}");
        }
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_is_wrong() {
    let home = tempfile::tempdir().unwrap();

    let foreign = home.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "dear").unwrap();
    let error = PrivatePostgres::start(&options(&foreign)).await.unwrap_err();
    assert!(matches!(error, PrivatePostgresError::NotOurs { .. }), "{error}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let data_dir = home.path().join("postgres");
    let mut wanted = options(&data_dir);
    wanted.port = Some(port);
    let error = PrivatePostgres::start(&wanted).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on 127.0.0.1:{port}"));

    // A setting the server refuses: the message shows what the server said.
    let mut wanted = options(&data_dir);
    wanted.max_connections = 1;
    let error = PrivatePostgres::start(&wanted).await.unwrap_err();
    assert!(matches!(error, PrivatePostgresError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("max_connections"), "{error}");

    fs::write(data_dir.join("cluster/PG_VERSION"), "9\n").unwrap();
    let error = PrivatePostgres::start(&options(&data_dir)).await.unwrap_err();
    assert!(matches!(error, PrivatePostgresError::OtherMajor { folder_major: 9, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn database_names_are_checked() {
    let home = tempfile::tempdir().unwrap();
    let server = PrivatePostgres::start(&options(home.path())).await.unwrap();
    for name in ["", "1st", "Upper", "a\"; drop table x; --", "a b", &"x".repeat(64)] {
        let error = server.create_database_if_missing(name).await.unwrap_err();
        assert!(matches!(error, PrivatePostgresError::DatabaseName { .. }), "{name:?}: {error}");
    }
    server.create_database_if_missing("ok_1").await.unwrap();
    connect(&server, "ok_1").await.close().await.unwrap();
    server.stop().await;
}

/// The process id in a leftover `postmaster.pid` may by now belong to anybody, here to this test.
#[tokio::test(flavor = "multi_thread")]
async fn a_leftover_pid_file_does_not_hinder() {
    let home = tempfile::tempdir().unwrap();
    PrivatePostgres::start(&options(home.path())).await.unwrap().stop().await;
    let pid_file = home.path().join("cluster/postmaster.pid");
    fs::write(&pid_file, format!("{}\n/nowhere\n", std::process::id())).unwrap();
    PrivatePostgres::start(&options(home.path())).await.unwrap().stop().await;
}

/// An owner that is killed takes its server with it, in order, and the next start finds the data.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn ends_with_an_owner_that_is_killed() {
    const FOLDER: &str = "PRIVATE_POSTGRES_TEST_FOLDER";
    if let Some(folder) = std::env::var_os(FOLDER) {
        // This is the owner: it makes its server known and waits to be killed.
        let server = PrivatePostgres::start(&options(Path::new(&folder))).await.unwrap();
        server.create_database_if_missing("made_by_owner").await.unwrap();
        fs::write(Path::new(&folder).join("owner-is-ready"), server.pid().to_string()).unwrap();
        server.ended().await;
        panic!("the server ended before its owner");
    }
    let home = tempfile::tempdir().unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ends_with_an_owner_that_is_killed", "--nocapture"])
        .env(FOLDER, home.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let ready = home.path().join("owner-is-ready");
    let pid = || fs::read_to_string(&ready).ok()?.parse::<u32>().ok();
    until("the owner's server", || pid().is_some()).await;
    let pid = pid().unwrap();
    assert!(is_running(pid));
    owner.kill().unwrap();
    owner.wait().unwrap();

    // At once, while the old server may still be shutting down.
    let server = PrivatePostgres::start(&options(home.path())).await.unwrap();
    assert!(!is_running(pid));
    connect(&server, "made_by_owner").await.close().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn others_find_the_server_that_runs_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("postgres");
    assert_eq!(running_url(&data_dir, "postgres").unwrap(), None);
    let server = PrivatePostgres::start(&options(&data_dir)).await.unwrap();
    let found = running_url(&data_dir, "postgres").unwrap();
    assert_eq!(found, Some(server.url("postgres")));
    PgConnection::connect(&found.unwrap()).await.unwrap();
    server.stop().await;
    assert_eq!(running_url(&data_dir, "postgres").unwrap(), None);

    // What a crash leaves is not taken for a server.
    let server = PrivatePostgres::start(&options(&data_dir)).await.unwrap();
    server.kill().await;
    assert!(data_dir.join("cluster/postmaster.pid").exists());
    assert_eq!(running_url(&data_dir, "postgres").unwrap(), None);
}
