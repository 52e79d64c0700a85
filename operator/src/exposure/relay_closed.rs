//! `RelayClosed`: whether the server was seen to refuse mail of strangers for strangers. Made from what the probe found at
//! each port of each pod.

use std::net::IpAddr;

use paquebot_crds::conditions::{ConditionType, ConditionUpdate, Reason};

use super::dialogue::Finding;

const TYPE: ConditionType = ConditionType::RelayClosed;
/// Looks in a row that must come to nothing before what was found earlier no longer stands.
const PATIENCE: u32 = 3;

/// How the message begins when nothing was found out.
const CAME_TO_NOTHING: &str = "The probe came to nothing.";

/// What was found at one port of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The pod's name.
    pub pod: String,
    /// The listener's name.
    pub listener: String,
    /// What came of it.
    pub finding: Finding,
}

/// What somebody should be told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    #[default]
    Neither,
    /// A stranger's mail was taken when last looked.
    Open,
    /// The probe's mail was taken, but a relay rule admits the operator itself, so that nobody can tell.
    Blind,
}

/// What is known of one server.
#[derive(Debug, Clone, Default)]
pub struct RelayClosed {
    said: Option<ConditionUpdate>,
    standing: Standing,
    unclear: u32,
}

impl RelayClosed {
    /// The condition; `None` before the first look.
    #[must_use]
    pub fn condition(&self) -> Option<&ConditionUpdate> {
        self.said.as_ref()
    }

    /// Whether somebody should be told of it.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// There is no port any more where other servers deliver: what was found at one says nothing of the server as it is.
    pub fn nothing_there(&mut self) {
        let message =
            "No listener has the protocol SMTP, so that there is no port where a stranger could try to relay.";
        let said = ConditionUpdate::unknown(TYPE, Reason::NotProbed, message);
        *self = Self { said: Some(said), ..Self::default() };
    }

    /// Takes in one look. `admitted`: addresses under which the operator appears at the server and that a relay rule
    /// admits, so that a recipient which is taken proves nothing.
    pub fn take(&mut self, probed: &[Probed], admitted: &[IpAddr]) {
        let taken = probed.iter().find_map(|probed| match &probed.finding {
            Finding::Taken { reply, sender } => Some((probed, reply, sender)),
            Finding::Refused | Finding::Unclear(_) => None,
        });
        let unclear = probed.iter().find_map(|probed| match &probed.finding {
            Finding::Unclear(why) => Some(format!("Listener {} of pod {}: {why}.", probed.listener, probed.pod)),
            Finding::Refused | Finding::Taken { .. } => None,
        });
        let next = match (taken, unclear, admitted.first()) {
            (Some(_), _, Some(address)) => ConditionUpdate::unknown(
                TYPE,
                Reason::NotProbed,
                format!(
                    "A RelayPolicy admits the operator's own address {address}, so that its probe cannot tell whether \
                     strangers are admitted. Admit pods by podSelector rather than by networks that hold the operator."
                ),
            ),
            (Some((probed, reply, sender)), _, None) => ConditionUpdate::no(
                TYPE,
                Reason::OpenRelay,
                format!(
                    "Listener {} of pod {} takes mail from anybody for anybody: it answered \"{reply}\" to a recipient of a \
                     domain that it does not serve, from <{sender}> and an address that no RelayPolicy admits. Look at the \
                     effectiveCIDRs of the RelayPolicies of this server.",
                    probed.listener, probed.pod
                ),
            ),
            (None, Some(why), _) => {
                self.unclear = self.unclear.saturating_add(1);
                // What is said of it does not follow each failure's words.
                let said = |said: &ConditionUpdate| said.message.starts_with(CAME_TO_NOTHING);
                if self.said.as_ref().is_some_and(|update| self.unclear < PATIENCE || said(update)) {
                    return;
                }
                ConditionUpdate::unknown(TYPE, Reason::NotProbed, format!("{CAME_TO_NOTHING} {why}"))
            }
            (None, None, _) if probed.is_empty() => return,
            (None, None, _) => ConditionUpdate::yes(
                TYPE,
                Reason::ProbeRefused,
                "The operator's regular probe for an open relay was refused, as it should be.",
            ),
        };
        if next.reason != Reason::NotProbed {
            self.unclear = 0;
        }
        self.standing = match next.reason {
            Reason::OpenRelay => Standing::Open,
            Reason::NotProbed if taken.is_some() => Standing::Blind,
            _ => Standing::Neither,
        };
        self.said = Some(next);
    }
}

#[cfg(test)]
mod tests {
    use paquebot_crds::conditions::ConditionStatus::{self, False, True, Unknown};

    use super::super::dialogue::Reply;
    use super::*;

    fn probed(finding: Finding) -> Probed {
        Probed { pod: "default-0".to_owned(), listener: "smtp".to_owned(), finding }
    }

    fn taken() -> Finding {
        let reply = Reply { code: 250, text: "2.1.5 ok".to_owned() };
        Finding::Taken { reply, sender: "x@y.invalid".to_owned() }
    }

    fn unclear() -> Finding {
        Finding::Unclear("it is busy".to_owned())
    }

    fn words(closed: &RelayClosed) -> Option<(ConditionStatus, Reason)> {
        closed.condition().map(|update| (update.status, update.reason))
    }

    #[test]
    fn one_open_pod_is_an_open_relay_unless_the_operator_itself_is_admitted() {
        let own = ["10.244.3.9".parse().unwrap()];
        for (findings, admitted, expected) in [
            (vec![Finding::Refused, Finding::Refused], &[][..], Some((True, Reason::ProbeRefused))),
            (vec![Finding::Refused], &own, Some((True, Reason::ProbeRefused))),
            (vec![Finding::Refused, taken()], &[], Some((False, Reason::OpenRelay))),
            (vec![unclear(), taken()], &[], Some((False, Reason::OpenRelay))),
            (vec![taken()], &own, Some((Unknown, Reason::NotProbed))),
            (vec![Finding::Refused, unclear()], &[], Some((Unknown, Reason::NotProbed))),
            (vec![], &[], None),
        ] {
            let mut closed = RelayClosed::default();
            closed.take(&findings.iter().cloned().map(probed).collect::<Vec<_>>(), admitted);
            assert_eq!(words(&closed), expected, "{findings:?}");
            let expected = match expected {
                Some((False, _)) => Standing::Open,
                Some((Unknown, _)) if !admitted.is_empty() => Standing::Blind,
                _ => Standing::Neither,
            };
            assert_eq!(closed.standing(), expected, "{findings:?}");
        }
    }

    #[test]
    fn without_a_port_nothing_that_was_found_stands() {
        for first in [Finding::Refused, taken()] {
            let mut closed = RelayClosed::default();
            closed.take(&[probed(first)], &[]);
            closed.nothing_there();
            assert_eq!((words(&closed), closed.standing()), (Some((Unknown, Reason::NotProbed)), Standing::Neither));
            closed.take(&[probed(Finding::Refused)], &[]);
            assert_eq!(words(&closed), Some((True, Reason::ProbeRefused)));
        }
    }

    #[test]
    fn what_was_found_stands_until_three_looks_in_a_row_come_to_nothing() {
        for first in [Finding::Refused, taken()] {
            let mut closed = RelayClosed::default();
            closed.take(&[probed(first.clone())], &[]);
            let said = words(&closed);
            for _ in 0..2 {
                closed.take(&[probed(unclear())], &[]);
                closed.take(&[], &[]);
                assert_eq!(words(&closed), said);
            }
            closed.take(&[probed(unclear())], &[]);
            assert_eq!(words(&closed), Some((Unknown, Reason::NotProbed)));
            closed.take(&[probed(first)], &[]);
            assert_eq!(words(&closed), said);
            closed.take(&[probed(unclear())], &[]);
            assert_eq!(words(&closed), said, "the count begins anew");
        }
        let mut closed = RelayClosed::default();
        closed.take(&[probed(taken())], &[]);
        closed.take(&[probed(Finding::Refused)], &[]);
        assert_eq!(words(&closed), Some((True, Reason::ProbeRefused)), "closed again");
    }
}
