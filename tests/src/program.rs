//! Starts real programs, signals them, and waits for their end.
//!
//! A program that is dropped is killed. What it printed is printed again at that moment: the test
//! harness shows it when the test failed.

use std::{
    collections::BTreeMap,
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::OnceLock,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{process::Child, task::JoinHandle};

use crate::{Context, Deadline, Failure, Log, Result, log::Stream};

/// Names the folder that holds the programs to test, for programs that cargo did not build here.
const BINARIES: &str = "ACTOR_TEST_BINARIES";
/// Says that every binary was built a moment ago; `tests/run` sets it.
const FRESH: &str = "ACTOR_TESTS_BUILT";
/// Lines shown of a program whose test failed.
const LINES_SHOWN: usize = 60;

/// What to start: a binary, its folder and its settings.
#[derive(Clone, Debug)]
pub struct Program {
    binary: PathBuf,
    folder: PathBuf,
    settings: BTreeMap<String, String>,
    arguments: Vec<String>,
}

impl Program {
    /// Returns the program at `binary`, to be started in `folder` with no settings but `PATH` and
    /// `HOME`.
    pub fn new(binary: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        let kept = ["PATH", "HOME", "TMPDIR"].into_iter();
        let settings = kept
            .filter_map(|name| Some((name.to_owned(), env::var(name).ok()?)))
            .collect();
        Self {
            binary: binary.into(),
            folder: folder.into(),
            settings,
            arguments: Vec::new(),
        }
    }

    /// Returns the flagship example on any free port, with its database `shop.db` in `folder`.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn shop(folder: &Path) -> Result<Self> {
        Ok(Self::new(built("shop")?, folder)
            .setting("ACTOR_HTTP_LISTEN", "127.0.0.1:0")
            .setting("ACTOR_NODE_NAME", "shop-1")
            .setting("RUST_BACKTRACE", "1"))
    }

    /// Returns the program in two releases, at its first, with the settings of a shop.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn teller(folder: &Path) -> Result<Self> {
        let shop = Self::shop(folder)?;
        let binary = built("teller")?;
        Ok(Self { binary, ..shop })
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl Into<String>) -> Self {
        self.settings.insert(name.to_owned(), value.into());
        self
    }

    /// Takes an environment variable away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// Adds a command-line argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts the program and does not wait for anything. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the operating system cannot start it.
    pub fn spawn(&self) -> Result<Running> {
        let mut command = tokio::process::Command::new(&self.binary);
        command
            .current_dir(&self.folder)
            .env_clear()
            .envs(&self.settings)
            .args(&self.arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .kill_on_drop(true)
            .spawn()
            .context(format!("starting {}", self.binary.display()))?;
        let log = Log::new(2);
        let out = child.stdout.take().context("standard output is a pipe")?;
        let err = child.stderr.take().context("standard error is a pipe")?;
        let readers = [
            tokio::spawn(log.clone().read(Stream::Out, out)),
            tokio::spawn(log.clone().read(Stream::Err, err)),
        ];
        let id = child.id().context("a new child has an id")?;
        Ok(Running {
            name: self.name(),
            id,
            child,
            log,
            readers,
        })
    }

    /// Starts the program and waits until it prints its address.
    ///
    /// # Errors
    /// When it ended first, or the deadline came first.
    pub async fn start(&self, deadline: Deadline) -> Result<Running> {
        let running = self.spawn()?;
        running.address(deadline).await?;
        Ok(running)
    }

    /// Runs the program to its end, which must come by itself.
    ///
    /// # Errors
    /// When the deadline came first; the program is killed then.
    pub async fn run(&self, deadline: Deadline) -> Result<Ended> {
        let mut running = self.spawn()?;
        let status = running.ended(deadline).await?;
        let (out, err) = (
            running.log.lines(Stream::Out),
            running.log.lines(Stream::Err),
        );
        Ok(Ended {
            code: status.code(),
            out,
            err,
        })
    }

    fn name(&self) -> String {
        self.binary
            .file_name()
            .unwrap_or(self.binary.as_os_str())
            .to_string_lossy()
            .into_owned()
    }
}

/// How a program ended by itself.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed to standard output.
    pub out: Vec<String>,
    /// What it printed to standard error.
    pub err: Vec<String>,
}

/// A program that was started.
#[derive(Debug)]
pub struct Running {
    name: String,
    id: u32,
    child: Child,
    log: Log,
    readers: [JoinHandle<()>; 2],
}

impl Running {
    /// Returns the id the operating system gave it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns what it prints.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Waits until it prints the first address of the form `http://host:port` and returns that.
    ///
    /// # Errors
    /// When it ended first, or the deadline came first; the failure shows what it printed.
    pub async fn address(&self, deadline: Deadline) -> Result<SocketAddr> {
        let what = format!("the address that {} prints", self.name);
        self.log
            .find(&what, deadline, |stream, line| {
                (stream == Stream::Out)
                    .then(|| printed_address(line))
                    .flatten()
            })
            .await
    }

    /// Ends it at once, as a power cut would (`SIGKILL`), and waits until it is gone.
    ///
    /// # Errors
    /// When it had ended before, or does not end within ten seconds.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.ended(Deadline::seconds(10)).await.map(|_| ())
    }

    /// Asks it to end (`SIGTERM`).
    ///
    /// # Errors
    /// When it has ended.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Asks it to end as Ctrl-C does (`SIGINT`).
    ///
    /// # Errors
    /// When it has ended.
    pub fn interrupt(&self) -> Result<()> {
        self.signal(Signal::INT)
    }

    /// Freezes it (`SIGSTOP`), and waits until none of its threads runs any more.
    ///
    /// # Errors
    /// When it has ended, or does not freeze within ten seconds.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let by = Deadline::seconds(10);
        while !is_stopped(self.id)? {
            if by.is_past() {
                return Err(Failure::new(format!("{} does not freeze", self.name)));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Lets it go on (`SIGCONT`).
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Waits for its end and for the end of its output.
    ///
    /// # Errors
    /// When the deadline came first.
    pub async fn ended(&mut self, deadline: Deadline) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        let status = deadline.limit(&what, self.child.wait()).await??;
        self.log.closed(deadline).await?;
        Ok(status)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // A child that was waited for has no id any more: its number may belong to another program.
        let id = self
            .child
            .id()
            .context(format!("{} has ended before the signal", self.name))?;
        let pid = i32::try_from(id)
            .ok()
            .and_then(Pid::from_raw)
            .context("a process id")?;
        kill_process(pid, signal).context(format!("{signal:?} to {}", self.name))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for reader in &self.readers {
            reader.abort();
        }
        // The harness keeps this to itself unless the test fails.
        println!(
            "last lines of {} ({}):\n{}",
            self.name,
            self.id,
            self.log.tail(LINES_SHOWN)
        );
    }
}

/// Says whether every thread of a program is stopped, as Linux tells it.
fn is_stopped(id: u32) -> Result<bool> {
    for thread in std::fs::read_dir(format!("/proc/{id}/task"))? {
        // One that is gone meanwhile does not run either.
        let Ok(stat) = std::fs::read_to_string(thread?.path().join("stat")) else {
            continue;
        };
        // The state follows the name, which is in brackets and may hold anything.
        let state = stat
            .rsplit_once(") ")
            .map(|(_, rest)| rest.starts_with('T'));
        if state != Some(true) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the first `http://host:port` in `line`.
fn printed_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    let ends = |c: char| !(c.is_ascii_alphanumeric() || ".:[]-".contains(c));
    let host = rest.split(ends).next()?;
    host.replace("localhost", "127.0.0.1")
        .trim_end_matches('.')
        .parse()
        .ok()
}

/// Returns the path of a workspace binary, which is built at most once.
fn built(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    if let Some(folder) = env::var_os(BINARIES) {
        return Ok(Path::new(&folder).join(name));
    }
    if env::var_os(FRESH).is_none() {
        BUILT.get_or_init(build).clone().map_err(Failure::new)?;
    }
    Ok(profile_folder()?.join(name))
}

/// Builds every binary with the features of the whole workspace.
fn build() -> Result<(), String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let release = profile_folder().is_ok_and(|folder| folder.ends_with("release"));
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--workspace",
            "--all-features",
            "--bins",
            "--message-format=short",
        ])
        .args(release.then_some("--release"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("cargo build failed:\n{said}"))
    }
}

/// Returns the folder that holds the binaries of the profile this test was built with.
fn profile_folder() -> Result<PathBuf> {
    let own = env::current_exe().context("the path of this test")?;
    let folder = own
        .parent()
        .and_then(Path::parent)
        .context("a test lies in target/PROFILE/deps");
    folder.map(Path::to_owned)
}

/// Returns cargo's target folder, for what tests leave behind to be looked at.
///
/// # Errors
/// When this program does not lie in one.
pub fn target_folder() -> Result<PathBuf> {
    let folder = profile_folder()?;
    folder
        .parent()
        .context("a profile lies in target")
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::new("/bin/sh", ".").argument("-c").argument(script)
    }

    #[test]
    fn an_address_is_read_out_of_the_line_that_prints_it() {
        let cases = [
            (
                "dashboard: http://127.0.0.1:8080/admin",
                Some("127.0.0.1:8080"),
            ),
            ("listening on http://localhost:80.", Some("127.0.0.1:80")),
            ("\u{1b}[1mhttp://[::1]:9\u{1b}[0m", Some("[::1]:9")),
            ("see http://example.org/guide", None),
            ("nothing", None),
        ];

        for (line, address) in cases {
            assert_eq!(
                printed_address(line),
                address.map(|text| text.parse().unwrap()),
                "{line}"
            );
        }
    }

    #[tokio::test]
    async fn a_program_is_started_found_by_its_address_and_killed() {
        let program = shell("echo at http://127.0.0.1:7/; exec sleep 60");

        let mut running = program.start(Deadline::seconds(10)).await.unwrap();
        running.kill().await.unwrap();

        assert!(running.terminate().is_err(), "it is gone");
    }

    #[tokio::test]
    async fn a_program_that_ends_before_it_prints_an_address_fails_the_start() {
        let start = shell("echo cannot open >&2; exit 2")
            .start(Deadline::seconds(10))
            .await;

        let failure = start.unwrap_err().to_string();
        assert!(
            failure.contains("ended first") && failure.contains("cannot open"),
            "{failure}"
        );
    }

    #[tokio::test]
    async fn the_end_of_a_program_comes_with_its_code_and_all_it_printed() {
        let ended = shell("echo out; echo err >&2; exit 3")
            .run(Deadline::seconds(10))
            .await
            .unwrap();

        assert_eq!(ended.code, Some(3));
        assert_eq!(
            (ended.out, ended.err),
            (vec!["out".to_owned()], vec!["err".to_owned()])
        );
    }

    #[tokio::test]
    async fn a_program_can_be_asked_to_end() {
        let script = "trap 'exit 0' TERM; echo http://127.0.0.1:7; while :; do read line; done";
        let mut running = shell(script).start(Deadline::seconds(10)).await.unwrap();

        running.terminate().unwrap();

        assert_eq!(
            running.ended(Deadline::seconds(10)).await.unwrap().code(),
            Some(0)
        );
    }
}
