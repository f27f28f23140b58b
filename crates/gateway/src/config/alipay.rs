//! `rails.alipay`: top-ups by QR code (specs/alipay.md).

use std::time::Duration;

use rails::alipay::PLATFORM_KEYS_MAX;
use rails::dial::Dialer;
use rails::rsa2::{SigningKey, VerifyingKey};

use super::Mode;
use super::rail::encrypted;
use super::section::{Keys, Section};
use super::url::{BaseUrl, Scheme};
use super::value;
use crate::snapshot::origin;

/// An app at Alipay's Open Platform.
#[derive(Clone, Debug)]
pub struct Alipay {
    /// The app, by its number.
    pub app_id: String,
    /// Who is paid: sixteen digits that begin with 2088.
    pub seller_id: String,
    /// The app's private key.
    pub key: SigningKey,
    /// Alipay's public key, and the next or the former one while it is rolled.
    pub platform_keys: Vec<VerifyingKey>,
    /// Alipay's gateway: the real one in mode live, the sandbox in mode test.
    pub url: BaseUrl,
    /// Where Alipay reaches this gateway; `server.public_url` when absent.
    pub notify_base: Option<BaseUrl>,
    /// What payers are shown, default `API credit`.
    pub subject: String,
    /// For one call, default 10 s.
    pub time_max: Duration,
}

impl Alipay {
    /// The app as what asks Alipay, with notices to this address where there is one.
    #[must_use]
    pub fn rail(&self, notify_url: Option<String>, dialer: &Dialer) -> rails::alipay::Alipay {
        rails::alipay::Alipay {
            origin: origin(&self.url),
            path: if self.url.base_path.is_empty() { "/".to_owned() } else { self.url.base_path.clone() },
            app_id: self.app_id.clone(),
            seller_id: self.seller_id.clone(),
            key: self.key.clone(),
            platform_keys: self.platform_keys.clone(),
            notify_url,
            dialer: dialer.within(self.time_max),
            time_max: self.time_max,
        }
    }
}

const KEYS: Keys = Keys::secret(
    &["app_id", "seller_id", "key", "platform_keys", "url", "notify_base", "subject", "timeout"],
    &["app_cert", "alipay_root_cert", "encrypt_key"],
);

const LIVE_URL: &str = "https://openapi.alipay.com/gateway.do";
const TEST_URL: &str = "https://openapi-sandbox.dl.alipaydev.com/gateway.do";
/// Where money is real.
const LIVE_DOMAIN: &str = ".alipay.com";
/// Where it is not.
const TEST_DOMAIN: &str = ".alipaydev.com";
const SUBJECT: &str = "API credit";
const TIME_MAX: Duration = Duration::from_secs(10);

/// Reads `rails.alipay`. None: there is none, or it cannot be used.
pub(super) fn read(rails: &Section<'_>) -> Option<Alipay> {
    let section = rails.section("alipay", KEYS)?;
    let mode = section.context.mode;
    let usual = match mode {
        Mode::Live => LIVE_URL,
        Mode::Test => TEST_URL,
    };
    let url = section.value("url", |text| gateway(text, mode)).or_else(|| BaseUrl::parse(usual).ok());
    let app_id = section.required("app_id", |text| digits(text, "an app_id", ""));
    let seller_id = section.required("seller_id", |text| digits(text, "a seller_id", "2088"));
    let notify_base = section.value("notify_base", |text| encrypted(text, "this gateway"));
    let subject = section.value("subject", subject).unwrap_or_else(|| SUBJECT.to_owned());
    let time_max = section.value("timeout", value::duration).unwrap_or(TIME_MAX);
    let platform_keys = read_platform_keys(&section);
    let key = read_key(&section)?;
    if platform_keys.contains(&key.verifying()) {
        let path = section.path_of("platform_keys");
        section.complain(
            "platform_keys",
            format!(
                "{path}: this is the app's own public key; Alipay's, which its console shows, belongs here"
            ),
        );
    }
    Some(Alipay {
        app_id: app_id?,
        seller_id: seller_id?,
        key,
        platform_keys,
        url: url?,
        notify_base,
        subject,
        time_max,
    })
}

fn read_key(section: &Section<'_>) -> Option<SigningKey> {
    let Some(node) = section.get("key") else {
        section.missing("rails.alipay needs \"key\": the app's private key");
        return None;
    };
    let path = section.path_of("key");
    let text = section.context.secret_lines(&path, node)?;
    let key = SigningKey::read(text.expose());
    key.inspect_err(|why| section.complain("key", format!("{path}: {why}"))).ok()
}

fn read_platform_keys(section: &Section<'_>) -> Vec<VerifyingKey> {
    let read = |text: &str| VerifyingKey::read(text).map_err(|why| why.to_string());
    let Some(written) = section.values("platform_keys", read) else {
        section.missing("rails.alipay needs \"platform_keys\": Alipay's public key, which its console shows");
        return Vec::new();
    };
    if written.is_empty() || written.len() > PLATFORM_KEYS_MAX {
        let path = section.path_of("platform_keys");
        section.complain("platform_keys", format!("{path}: between 1 and {PLATFORM_KEYS_MAX} of them"));
    }
    written.into_iter().map(|(_, key)| key).collect()
}

/// Real money in mode live and nowhere else; in the clear on this machine and in mode test only.
fn gateway(text: &str, mode: Mode) -> Result<BaseUrl, String> {
    let url = encrypted(text, "Alipay")?;
    let is_of = |domain: &str| url.host.ends_with(domain);
    match (mode, url.scheme) {
        (Mode::Live, Scheme::Http) => Err("Alipay is reached by https in mode live".to_owned()),
        (Mode::Live, Scheme::Https) if is_of(TEST_DOMAIN) => {
            Err("Alipay's sandbox exists in mode test only".to_owned())
        }
        (Mode::Test, Scheme::Https) if is_of(LIVE_DOMAIN) => Err("real money needs mode live".to_owned()),
        (Mode::Live, Scheme::Https) | (Mode::Test, Scheme::Http | Scheme::Https) => Ok(url),
    }
}

/// A number of Alipay's: sixteen digits.
fn digits(text: &str, what: &str, start: &str) -> Result<String, String> {
    if text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_digit()) && text.starts_with(start) {
        return Ok(text.to_owned());
    }
    let start = if start.is_empty() { String::new() } else { format!(" that begin with {start}") };
    Err(format!("\"{text}\" is not {what}: 16 digits{start}, in quotes"))
}

/// Alipay refuses a few letters in what payers are shown.
fn subject(text: &str) -> Result<String, String> {
    let letters = text.chars().count();
    if !(1..=256).contains(&letters)
        || text.chars().any(|letter| letter.is_control() || "/=&".contains(letter))
    {
        return Err("is 1 to 256 letters, without / = & and line ends".to_owned());
    }
    Ok(text.to_owned())
}
