//! What other processes may say: each token once, and not for long.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_domain::ReplicaId;

/// What nobody can guess.
pub(crate) type Token = [u8; 32];

/// From the coordinator's word to the client's.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// Tokens that nobody has said yet: as many as leases of one model of a thousand components.
const MOST: usize = 4_096;

/// The tokens of one worker, and where they are said.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<Said>);

#[derive(Debug)]
struct Said {
    /// Where; or why nowhere.
    socket: Result<String, String>,
    good: HashMap<Token, (ReplicaId, Duration)>,
}

impl Default for Said {
    fn default() -> Self {
        Self { socket: Err("its socket is not open yet".to_owned()), good: HashMap::new() }
    }
}

impl Tokens {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// They are said here.
    pub(super) fn open(&self, socket: String) {
        self.said().socket = Ok(socket);
    }

    /// They cannot be said anywhere.
    pub(super) fn close(&self, why: String) {
        self.said().socket = Err(why);
    }

    /// From now on a token is good. The answer: where.
    ///
    /// # Errors
    /// Why not, for people.
    pub(crate) fn add(&self, token: Token, id: ReplicaId, now: Duration) -> Result<String, String> {
        let mut said = self.said();
        let socket = said.socket.clone()?;
        said.good.retain(|_, (_, since)| now.saturating_sub(*since) < GOOD_FOR);
        if said.good.len() >= MOST {
            return Err(format!("{MOST} tokens wait to be said, which is the limit"));
        }
        if said.good.insert(token, (id, now)).is_some() {
            said.good.remove(&token);
            return Err("the token is another's".to_owned());
        }
        Ok(socket)
    }

    /// Nobody is to say it any more.
    pub(crate) fn withdraw(&self, token: &Token) {
        self.said().good.remove(token);
    }

    /// Somebody says it.
    pub(super) fn take(&self, token: &Token, now: Duration) -> Option<ReplicaId> {
        let (id, since) = self.said().good.remove(token)?;
        (now.saturating_sub(since) < GOOD_FOR).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_good_once_and_for_a_minute() {
        let (tokens, id) = (Tokens::default(), ReplicaId(Uuid::from_u128(1)));
        assert!(tokens.add([1; 32], id, at(0)).is_err(), "nowhere to say it");
        tokens.open("/somewhere".to_owned());
        for number in [1, 2, 3] {
            assert_eq!(tokens.add([number; 32], id, at(0)), Ok("/somewhere".to_owned()));
        }
        assert_eq!(tokens.take(&[1; 32], at(1)), Some(id));
        assert_eq!(tokens.take(&[1; 32], at(1)), None, "used");
        assert_eq!(tokens.take(&[9; 32], at(1)), None, "never told");
        assert_eq!(tokens.take(&[2; 32], at(60)), None, "too old");
    }

    #[test]
    fn tokens_that_nobody_says_do_not_pile_up() {
        let (tokens, id) = (Tokens::default(), ReplicaId(Uuid::from_u128(1)));
        tokens.open("/somewhere".to_owned());
        let token = |number: usize| {
            let mut token = [0; 32];
            token[..8].copy_from_slice(&number.to_le_bytes());
            token
        };
        for number in 0..MOST {
            tokens.add(token(number), id, at(0)).unwrap();
        }
        assert!(tokens.add(token(MOST), id, at(59)).is_err());
        assert!(tokens.add(token(MOST), id, at(60)).is_ok(), "the old ones are not good any more");
    }

    #[test]
    fn a_token_of_two_is_nobodys() {
        let tokens = Tokens::default();
        tokens.open("/somewhere".to_owned());
        tokens.add([1; 32], ReplicaId(Uuid::from_u128(1)), at(0)).unwrap();
        assert!(tokens.add([1; 32], ReplicaId(Uuid::from_u128(2)), at(0)).is_err());
        assert_eq!(tokens.take(&[1; 32], at(0)), None);
    }
}
