//! Headless Chromium, driven through ChromeDriver.
//!
//! Needs `chromium` and `chromedriver` (Debian: packages chromium and chromium-driver; `tests/run`
//! installs them). Elements are found by their `data-testid`. A page that is dropped closes its
//! browser, which blocks the thread: tests run on a runtime with worker threads.

use std::{
    env,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use thirtyfour::{
    By, ChromiumLikeCapabilities, DesiredCapabilities, LoggingPrefsLogLevel, WebDriver, WebElement,
    WindowHandle,
};

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::{Context, Deadline, Failure, Program, Result, Running, program::target_folder};

/// Flags for a browser that runs as any user and calls nobody.
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--force-color-profile=srgb",
];

/// The size of what a page is seen through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewport {
    /// 390 x 844 points at two pixels a point, with touch.
    Phone,
    /// 1280 x 900 pixels.
    Desktop,
}

/// A running ChromeDriver. It must outlive its pages.
#[derive(Debug)]
pub struct Driver {
    address: String,
    _running: Running,
    _folder: TempDir,
}

impl Driver {
    /// Starts ChromeDriver on any free port.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn start() -> Result<Self> {
        let binary = installed("chromedriver")?;
        let folder = tempfile::tempdir().context("a folder for the driver")?;
        let running = Program::new(binary, folder.path())
            .argument("--port=0")
            .spawn()?;
        let port: u16 = running
            .log()
            .find(
                "the port of chromedriver",
                Deadline::seconds(20),
                |_, line| {
                    let (_, port) = line.split_once("started successfully on port ")?;
                    port.trim_end_matches('.').parse().ok()
                },
            )
            .await?;
        let address = format!("http://127.0.0.1:{port}");
        Ok(Self {
            address,
            _running: running,
            _folder: folder,
        })
    }

    /// Opens a browser with an empty profile.
    ///
    /// # Errors
    /// When Chromium does not start, or the runtime has only one thread.
    pub async fn open(&self, viewport: Viewport) -> Result<Page> {
        if Handle::current().runtime_flavor() != RuntimeFlavor::MultiThread {
            return Err(Failure::new(
                "write #[tokio::test(flavor = \"multi_thread\")]",
            ));
        }
        let profile = tempfile::tempdir().context("a folder for the profile")?;
        let mut wanted = DesiredCapabilities::chrome();
        wanted.set_binary(&installed("chromium")?.to_string_lossy())?;
        for flag in FLAGS {
            wanted.add_arg(flag)?;
        }
        wanted.add_arg(&format!("--user-data-dir={}", profile.path().display()))?;
        wanted.set_browser_log_level(LoggingPrefsLogLevel::Severe)?;
        match viewport {
            Viewport::Desktop => wanted.add_arg("--window-size=1280,900")?,
            // A window is never narrower than 500 pixels; an emulated device is.
            Viewport::Phone => wanted.add_experimental_option(
                "mobileEmulation",
                serde_json::json!({"deviceMetrics": {
                    "width": 390, "height": 844, "pixelRatio": 2.0, "touch": true, "mobile": true,
                }}),
            )?,
        }
        let starting = WebDriver::new(&self.address, wanted);
        let browser = Deadline::seconds(60)
            .limit("starting chromium", starting)
            .await??;
        Ok(Page {
            browser,
            _profile: profile,
        })
    }
}

/// One browser window with its tabs; calls go to the tab chosen last.
#[derive(Debug)]
pub struct Page {
    browser: WebDriver,
    _profile: TempDir,
}

impl Page {
    /// Opens an address.
    ///
    /// # Errors
    /// When the browser cannot load it within 30 seconds.
    pub async fn goto(&self, address: impl Into<String>) -> Result<()> {
        let loading = self.browser.goto(address.into());
        Ok(Deadline::seconds(30)
            .limit("loading the page", loading)
            .await??)
    }

    /// Loads the page again.
    ///
    /// # Errors
    /// When the browser cannot load it within 30 seconds.
    pub async fn reload(&self) -> Result<()> {
        Ok(Deadline::seconds(30)
            .limit("loading the page", self.browser.refresh())
            .await??)
    }

    /// Returns the tab that calls go to.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn tab(&self) -> Result<WindowHandle> {
        Ok(self.browser.window().await?)
    }

    /// Opens a tab beside this one and turns to it.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn open_tab(&self) -> Result<WindowHandle> {
        let tab = self.browser.new_tab().await?;
        self.browser.switch_to_window(tab.clone()).await?;
        Ok(tab)
    }

    /// Turns to a tab.
    ///
    /// # Errors
    /// When it was closed.
    pub async fn turn_to(&self, tab: &WindowHandle) -> Result<()> {
        Ok(self.browser.switch_to_window(tab.clone()).await?)
    }

    /// Returns the ids after `prefix` of all elements whose test id begins so, in the page's order.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn ids(&self, prefix: &str) -> Result<Vec<String>> {
        let all = self
            .browser
            .find_all(By::Css(format!("[data-testid^='{prefix}']")))
            .await?;
        let mut ids = Vec::new();
        for element in all {
            let id = element.attr("data-testid").await?.unwrap_or_default();
            ids.push(id.trim_start_matches(prefix).to_owned());
        }
        Ok(ids)
    }

    /// Returns the visible text of an element, or `None` if there is no such element now.
    pub async fn text(&self, id: &str) -> Option<String> {
        let element = self.browser.find(By::Testid(id)).await.ok()?;
        Some(element.text().await.ok()?.trim().to_owned())
    }

    /// Waits until the text of an element fits, and returns it.
    ///
    /// # Errors
    /// When the deadline came first; the failure says what the text was.
    pub async fn wait_for(
        &self,
        id: &str,
        by: Deadline,
        fits: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let mut last = None;
        let waiting = by.poll(id, async || {
            last = self.text(id).await;
            last.clone().filter(|text| fits(text))
        });
        let found = waiting.await;
        found.map_err(|_| Failure::new(format!("`{id}` does not get there; it shows {last:?}")))
    }

    /// Clicks an element once it can be clicked.
    ///
    /// # Errors
    /// When it cannot be clicked within ten seconds.
    pub async fn click(&self, id: &str) -> Result<()> {
        let element = self.element(id).await?;
        element.scroll_into_view().await?;
        let mut why = None;
        let clicking = Deadline::seconds(10).poll(id, async || match element.click().await {
            Ok(()) => Some(()),
            Err(error) => {
                why = Some(error);
                None
            }
        });
        clicking.await.map_err(|late| match why {
            Some(error) => error.into(),
            None => late,
        })
    }

    /// Replaces what an input holds, or chooses the option of a select whose value or text is
    /// `text`.
    ///
    /// # Errors
    /// When there is no such element, or it takes no text.
    pub async fn fill(&self, id: &str, text: &str) -> Result<()> {
        let element = self.element(id).await?;
        if element.tag_name().await? == "select" {
            let option = format!(".//option[@value='{text}' or normalize-space()='{text}']");
            return Ok(element.find(By::XPath(option)).await?.click().await?);
        }
        element.clear().await?;
        Ok(element.send_keys(text).await?)
    }

    /// Returns by how many pixels the page is wider than what it is seen through.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn overflow(&self) -> Result<i64> {
        let script =
            "const page = document.documentElement; return page.scrollWidth - page.clientWidth;";
        let answer = self.browser.execute(script, Vec::new()).await?;
        answer.json().as_i64().context("a number of pixels")
    }

    /// Returns the errors the page reported since the last call.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn errors(&self) -> Result<Vec<String>> {
        let entries = self.browser.browser_log().await?;
        Ok(entries
            .into_iter()
            .map(|entry| format!("{entry:?}"))
            .collect())
    }

    /// Writes `target/screenshots/NAME.png`.
    ///
    /// # Errors
    /// When the browser is gone or the file cannot be written.
    pub async fn screenshot(&self, name: &str) -> Result<PathBuf> {
        let folder = target_folder()?.join("screenshots");
        std::fs::create_dir_all(&folder).context("the folder of screenshots")?;
        let file = folder.join(format!("{name}.png"));
        std::fs::write(&file, self.browser.screenshot_as_png().await?)?;
        println!("screenshot: {}", file.display());
        Ok(file)
    }

    async fn element(&self, id: &str) -> Result<WebElement> {
        let finding =
            Deadline::seconds(10).poll(id, async || self.browser.find(By::Testid(id)).await.ok());
        finding.await
    }
}

/// Returns where a program of the system lies.
fn installed(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found = env::split_paths(&path).map(|folder| folder.join(name));
    found
        .find(|file: &PathBuf| Path::is_file(file))
        .context(format!(
            "`{name}` is not installed; `tests/run browser` installs it"
        ))
}
