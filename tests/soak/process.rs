//! What this process holds: descriptors and memory, and tasks of the client's runtime.

use std::{fmt, fs, thread, time::Duration};

use httptrace::Client;
use tokio::runtime::Handle;

/// Far longer than anything here takes: it only turns a hang into a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Held {
    descriptors: usize,
    tasks: usize,
    /// In bytes.
    memory: u64,
}

impl Held {
    fn now(runtime: &Handle) -> Self {
        let descriptors = fs::read_dir("/proc/self/fd").expect("Linux has it").count();
        let pages = fs::read_to_string("/proc/self/statm").expect("Linux has it");
        let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number");
        Self { descriptors, tasks: runtime.metrics().num_alive_tasks(), memory: resident * 4096 }
    }

    /// Once no task is alive and no descriptor more is open than before; or what there is when that does not come. What is
    /// idle is closed again and again: a dial that went on without its request may have pooled its connection meanwhile.
    pub(crate) fn settled(runtime: &Handle, client: &Client, before: Option<&Self>) -> Self {
        let pause = Duration::from_millis(20);
        let mut last = Self::now(runtime);
        for _ in 0..PATIENCE.as_millis() / pause.as_millis() {
            client.close_idle_connections();
            thread::sleep(pause);
            let now = Self::now(runtime);
            let rests = now.descriptors == last.descriptors;
            let fewer = before.is_none_or(|before| now.descriptors <= before.descriptors + SPARE);
            last = now;
            if last.tasks == 0 && rests && fewer {
                break;
            }
        }
        last
    }

    pub(crate) fn faults(&self, before: &Self, growth: u64) -> Vec<String> {
        let mut faults = Vec::new();
        for held in [before, self] {
            if held.tasks > 0 {
                faults.push(format!("{} tasks are left", held.tasks));
            }
        }
        if self.descriptors > before.descriptors + SPARE {
            faults.push(format!("{} descriptors have become {}", before.descriptors, self.descriptors));
        }
        if self.memory > before.memory + growth {
            faults.push(format!("{} bytes have become {}", before.memory, self.memory));
        }
        faults
    }
}

/// Both ends of the exporters' two connections to the collector, which may be there or not.
const SPARE: usize = 4;

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, tasks, memory } = self;
        write!(f, "{descriptors} descriptors, {tasks} tasks, {:.1} MiB", *memory as f64 / f64::from(1 << 20))
    }
}
