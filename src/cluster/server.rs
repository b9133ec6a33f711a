//! A NATS server by address, and who one is there.

use std::fmt;
use std::path::{Path, PathBuf};

use async_nats::{ConnectOptions, ServerAddr};

use crate::error::{Error, Result};

/// Where a server is, and what it wants to know. Nothing of the latter is ever printed.
#[derive(Clone, Default)]
pub struct Server {
    /// `nats://HOST[:4222]` or `tls://HOST`; several of one cluster with commas between them. A user and password, or a token, may
    /// stand before the host.
    pub url: String,
    /// What names on the server begin with.
    pub prefix: String,
    /// User and password.
    pub user: Option<(String, String)>,
    /// A token.
    pub token: Option<String>,
    /// A file with a JWT and its seed, as `nsc` writes it.
    pub credentials: Option<PathBuf>,
    /// A file with an NKey's seed.
    pub nkey: Option<PathBuf>,
    /// A file with the certificates of authorities to trust besides the system's.
    pub authorities: Option<PathBuf>,
    /// Files of a certificate of one's own, and of its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("url", &Server::without_secrets(&self.url)).finish_non_exhaustive()
    }
}

impl Server {
    /// What names begin with where nothing is said.
    pub const PREFIX: &'static str = "criadero";

    /// An address as it may be shown and written down: a user, password or token in it is left out.
    pub fn without_secrets(url: &str) -> String {
        let bare = |one: &str| match one.split_once("://") {
            Some((scheme, rest)) => {
                let end = rest.find('/').unwrap_or(rest.len());
                let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
                format!("{scheme}://{}", &rest[host..])
            }
            None => one[one.rfind('@').map_or(0, |at| at + 1)..].to_string(),
        };
        url.split(',').map(|one| bare(one.trim())).collect::<Vec<_>>().join(",")
    }

    /// The address as it may be shown.
    pub fn shown(&self) -> String {
        Server::without_secrets(&self.url)
    }

    /// The addresses, and how to connect.
    ///
    /// # Errors
    /// An address that is none, files that cannot be read.
    pub(super) async fn options(&self) -> Result<(Vec<ServerAddr>, ConnectOptions)> {
        let address = |one: &str| {
            let wrong = || {
                let expected = "`nats://HOST[:PORT]` or `tls://HOST[:PORT]`";
                Error::invalid("address of a NATS server", format!("`{}`", Server::without_secrets(one)), expected)
            };
            one.trim()
                .parse::<ServerAddr>()
                .map_err(|_| wrong())
                .and_then(|one| if one.host().is_empty() || one.is_websocket() { Err(wrong()) } else { Ok(one) })
        };
        let addresses: Vec<ServerAddr> = self.url.split(',').map(address).collect::<Result<_>>()?;
        let mut options = ConnectOptions::new().name("criadero");
        // In an address, a name without a password is a token.
        match addresses.iter().find_map(|address| Some((address.username()?, address.password()))) {
            Some((user, Some(password))) => options = options.user_and_password(user.into(), password.into()),
            Some((token, None)) => options = options.token(token.to_string()),
            None => {}
        }
        if let Some(token) = &self.token {
            options = options.token(token.clone());
        }
        if let Some((user, password)) = &self.user {
            options = options.user_and_password(user.clone(), password.clone());
        }
        if let Some(path) = &self.credentials {
            options = options.credentials(&text_of(path)?).map_err(|_| {
                let reason = "found no JWT with its seed, as `nsc generate creds` writes them".to_string();
                Error::format(path, "NATS credentials", reason)
            })?;
        }
        if let Some(path) = &self.nkey {
            options = options.nkey(text_of(path)?.trim().to_string());
        }
        if let Some(path) = &self.authorities {
            text_of(path)?;
            options = options.add_root_certificates(path.clone());
        }
        if let Some((certificate, key)) = &self.certificate {
            text_of(certificate)?;
            text_of(key)?;
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        Ok((addresses, options))
    }
}

fn text_of(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_an_address_is_shown() {
        for (url, shown) in [
            ("nats://host:4222", "nats://host:4222"),
            ("nats://me:secret@host", "nats://host"),
            ("tls://s3cr3t@host:4222, nats://me:p@ss@[::1]:1", "tls://host:4222,nats://[::1]:1"),
            ("me:secret@host", "host"),
            ("host:4222", "host:4222"),
        ] {
            assert_eq!(Server::without_secrets(url), shown);
            let server = Server { url: url.to_string(), token: Some("s3cr3t".into()), ..Server::default() };
            let debug = format!("{server:?}");
            assert!(!debug.contains("cr3t") && !debug.contains("secret") && debug.contains("host"), "{debug}");
        }
    }
}
