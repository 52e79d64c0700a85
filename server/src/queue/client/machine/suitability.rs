//! What a server cannot take, by what it offers: known without asking it.

use paquebot_config::Address;

use super::{Client, Outcome, Protection, Transaction};
use crate::queue::status::Refusal;
use crate::store::RemoteRecipient;
use crate::store::envelope::ByMode;

impl Client {
    /// Why this server cannot take the message, known without asking it.
    pub(super) fn unsuited(&self, transaction: &Transaction) -> Option<Refusal> {
        let offered = &self.capabilities;
        if transaction.declared.require_tls && !(self.is_verified() && offered.require_tls) {
            return Some(self.no_require_tls());
        }
        if let Some(limit) = offered.size
            && transaction.octets > limit
        {
            let text = format!("the message has {} octets, the server takes {limit} at most", transaction.octets);
            return Some(Refusal { code: 552, ..Refusal::permanent(3, 4, text).at(&self.host) });
        }
        let sender_is_ascii = transaction.reverse_path.as_ref().is_none_or(Address::is_ascii);
        let is_international = !transaction.header_is_ascii || !sender_is_ascii;
        if transaction.declared.smtputf8 && !offered.smtputf8 && is_international {
            return Some(self.no_smtputf8());
        }
        self.too_late(transaction)
    }

    /// RFC 2852 §4: what comes back when it is late goes only to servers that look after that.
    fn too_late(&self, transaction: &Transaction) -> Option<Refusal> {
        let by = transaction.declared.deliver_by.filter(|by| by.mode == ByMode::Return)?;
        let left = transaction.seconds_left.and_then(|left| u64::try_from(left).ok()).filter(|left| *left > 0);
        let text = match (left, self.capabilities.deliver_by) {
            (None, _) => format!("it was to be delivered by {}, and that time is over", by.at),
            (_, None) => "the server does not look after delivery times (DELIVERBY)".to_owned(),
            (Some(left), Some(least)) if left < least => {
                format!("it is to be delivered within {left} seconds, and the server promises nothing below {least}")
            }
            _ => return None,
        };
        Some(Refusal::permanent(4, 7, text).at(&self.host))
    }

    /// Whether TLS is spoken with a certificate that proves the host's name, which configuration gave.
    fn is_verified(&self) -> bool {
        self.encrypted && matches!(self.protection, Protection::Required | Protection::FromTheBeginning)
    }

    /// RFC 8689 §4.2.1.
    fn no_require_tls(&self) -> Refusal {
        let text = if self.is_verified() {
            "the sender requires TLS on the whole way (REQUIRETLS), and the server does not promise it"
        } else {
            "the sender requires TLS on the whole way (REQUIRETLS), and the server's name is not verified: that needs a \
             smart host with verified TLS"
        };
        Refusal::permanent(7, 30, text).at(&self.host)
    }

    /// RFC 6531 §3.4: an address beyond ASCII goes only to a server that offers the extension.
    pub(super) fn unsuited_recipient(&self, recipient: &RemoteRecipient) -> Option<Outcome> {
        (!self.capabilities.smtputf8 && !recipient.address.is_ascii()).then(|| Err(self.no_smtputf8()))
    }

    fn no_smtputf8(&self) -> Refusal {
        Refusal::permanent(6, 7, "the server does not take internationalised mail (SMTPUTF8)").at(&self.host)
    }
}
