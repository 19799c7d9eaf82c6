//! What the daemon asks for and what it is told, as in src/network/networker.ts.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::join::Join;
use crate::namespace::Make;
use crate::network::Network;
use crate::plugin::{Ended, Run};

#[derive(Debug, Deserialize)]
pub struct Call {
    pub id: u64,
    pub work: Work,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Work {
    Run(Run),
    Join(Join),
    Make(Make),
    /// Removes the name of a network namespace; it need not exist.
    Forget {
        namespace: PathBuf,
    },
}

#[derive(Debug, Serialize)]
pub struct Answer {
    pub id: u64,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// All but the first are the last that is heard of a call.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Started(u32),
    Ended(Ended),
    Network(Network),
    Done {},
    Failed { message: String, errno: Option<i32> },
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        Self::Failed {
            message: error.to_string(),
            errno: error.errno(),
        }
    }
}
