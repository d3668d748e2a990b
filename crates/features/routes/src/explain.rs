//! Why did a message go where it went? Told by the records of the routes that took it, or that made it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::Millis;
use waystation_host::{Browse, Target};

use crate::{
    Error, Routes,
    limits::EXPLAIN_SCAN_MAX,
    record::{self, Record},
    trial::stored_at,
};

/// Messages and bytes of one page that is read.
const PAGE: (usize, usize) = (2_000, 4 << 20);
/// Records of one message that are told.
const FOUND_MAX: usize = 100;

/// What is known of a message's way through routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = RouteExplanation)]
pub struct Explanation {
    /// What routes took this message and made of it, oldest first.
    pub taken_by: Vec<Record>,
    /// The route that made this message out of another, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<Record>,
    /// Records were looked through up to the limit: there may be more.
    pub is_cut: bool,
}

impl Routes {
    /// Explains a message by its id, a UUID.
    pub async fn explain(&self, id: &str) -> Result<Explanation, Error> {
        let wrong = || {
            Error::Unknown(format!("'{id}' is no message's id, such as 0190163d-8694-739b-aea5-966c26f8ad91"))
        };
        let uuid: waystation_base::MessageId =
            serde_json::from_value(serde_json::Value::String(id.to_owned())).map_err(|_| wrong())?;
        let id = uuid.to_string();
        let mut explanation = Explanation::default();
        // No record is older than the message, and the message that made it is not younger than its record.
        let since = stored_at(uuid.as_bytes());
        self.scan(
            since,
            |record| {
                if record.message == id {
                    explanation.taken_by.push(record);
                } else if record.sent.iter().any(|sent| sent.id == id) {
                    explanation.made_by = Some(record);
                }
                explanation.taken_by.len() < FOUND_MAX
            },
            &id,
        )
        .await
        .map(|is_cut| explanation.is_cut = is_cut)?;
        if explanation == Explanation::default() {
            let reason = "no record of a route tells of this message: no route took it, or it is too old, or the route has record = false";
            return Err(Error::Unknown(reason.to_owned()));
        }
        Ok(explanation)
    }

    /// Looks through records from a time on that contain the text; says whether it ended at the limit.
    async fn scan(
        &self,
        since: Millis,
        mut see: impl FnMut(Record) -> bool,
        text: &str,
    ) -> Result<bool, Error> {
        let topic = Target::Topic(record::topic());
        let (mut from, mut seen) = (None, 0);
        loop {
            let (max, bytes_max) = PAGE;
            let from_time = from.is_none().then_some(since);
            let browse = Browse { from, from_time, max, bytes_max, ..Browse::default() };
            let page = self.broker().browse(topic.clone(), browse).await?;
            for delivery in &page.messages {
                let body = &delivery.message.body;
                let contains = memchr::memmem::find(body, text.as_bytes()).is_some();
                let record = contains.then(|| serde_json::from_slice::<Record>(body).ok()).flatten();
                if record.is_some_and(|record| !see(record)) {
                    return Ok(true);
                }
            }
            seen += page.messages.len();
            from = page.next;
            if from.is_none() {
                return Ok(false);
            }
            if seen >= EXPLAIN_SCAN_MAX {
                return Ok(true);
            }
        }
    }
}
