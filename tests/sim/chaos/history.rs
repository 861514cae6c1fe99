//! What clients asked of the registers and what they were told, and whether some order of all of it
//! explains that: linearizability, by the algorithm of Wing and Gong with Lowe's memory of states
//! already seen, as todc-utils has it.

use std::collections::BTreeMap;

use todc_utils::{
    linearizability::{
        WGLChecker,
        history::{Action, History},
    },
    specifications::Specification,
};

/// One operation on a register, with what was told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Of a write nothing is told but that it was done.
    Write(u64),
    Read {
        /// `None` if nobody was told.
        value: Option<u64>,
    },
    Swap {
        from: u64,
        to: u64,
        /// `None` if nobody was told.
        done: Option<bool>,
    },
}

/// A register that holds a number, at first 0.
struct RegisterRule;

impl Specification for RegisterRule {
    type State = u64;
    type Operation = Operation;

    fn init() -> u64 {
        0
    }

    fn apply(operation: &Operation, state: &u64) -> (bool, u64) {
        match *operation {
            Operation::Write(value) => (true, value),
            Operation::Read { value } => (value.is_none_or(|value| value == *state), *state),
            Operation::Swap { from, to, done } => {
                let does = *state == from;
                let then = if does { to } else { *state };
                (done.is_none_or(|done| done == does), then)
            }
        }
    }
}

/// Everything that was asked, in the order it happened.
#[derive(Debug, Default)]
pub(super) struct Asked {
    actions: BTreeMap<u64, Vec<(usize, Action<Operation>)>>,
    open: BTreeMap<usize, (u64, Operation)>,
    next: usize,
}

impl Asked {
    /// Notes a call to a register; returns its number.
    pub(super) fn call(&mut self, register: u64, operation: Operation) -> usize {
        self.next += 1;
        // Every call is a caller of its own: one without an answer is open until the end.
        let call = (self.next, Action::Call(operation));
        self.actions.entry(register).or_default().push(call);
        self.open.insert(self.next, (register, operation));
        self.next
    }

    /// Notes the answer.
    pub(super) fn answer(&mut self, call: usize, operation: Operation) {
        let (register, _) = self.open.remove(&call).expect("it is answered once");
        let answer = (call, Action::Response(operation));
        self.actions.entry(register).or_default().push(answer);
    }

    /// Returns how many calls were answered, and how many not.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.next - self.open.len(), self.open.len())
    }

    /// Returns the registers whose history no order explains.
    pub(super) fn impossible(mut self) -> Vec<u64> {
        // What nobody was told of may have been done at any time after its call, or never: which
        // is the same as after everything else.
        for (call, (register, operation)) in std::mem::take(&mut self.open) {
            let answer = (call, Action::Response(operation));
            self.actions.entry(register).or_default().push(answer);
        }
        let wrong = self.actions.into_iter().filter(|(_, actions)| {
            let history = History::from_actions(actions.clone());
            !WGLChecker::<RegisterRule>::is_linearizable(history)
        });
        wrong.map(|(register, _)| register).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Operation = Operation::Read { value: None };

    fn read(value: u64) -> Operation {
        Operation::Read { value: Some(value) }
    }

    #[test]
    fn a_read_that_forgets_an_answered_write_is_impossible() {
        let mut asked = Asked::default();
        let write = asked.call(7, Operation::Write(1));
        asked.answer(write, Operation::Write(1));
        let late = asked.call(7, READ);
        asked.answer(late, read(0));

        assert_eq!(asked.impossible(), [7]);
    }

    #[test]
    fn a_write_nobody_was_told_of_may_show_late_but_not_come_and_go() {
        for (reads, impossible) in [(vec![0, 0, 1], vec![]), (vec![1, 0], vec![7])] {
            let mut asked = Asked::default();
            asked.call(7, Operation::Write(1));
            for value in reads {
                let call = asked.call(7, READ);
                asked.answer(call, read(value));
            }

            assert_eq!(asked.impossible(), impossible);
        }
    }

    #[test]
    fn two_swaps_from_one_value_cannot_both_be_done() {
        let mut asked = Asked::default();
        for to in [1, 2] {
            let swap = |done| Operation::Swap { from: 0, to, done };
            let call = asked.call(7, swap(None));
            asked.answer(call, swap(Some(true)));
        }

        assert_eq!(asked.impossible(), [7]);
    }
}
