//! What is wrong in a configuration file, and how it is shown: every fault, not only the first, each with
//! its place, what was found and what to write instead.
//!
//! Never shows a secret: the source is drawn from a copy in which secrets are masked.

use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The product does not start with it.
    Error,
    /// The product starts; the operator should know.
    Warning,
}

/// The kind of a finding; its text is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultCode {
    /// The configuration file itself cannot be read.
    FileUnreadable,
    /// It is not TOML.
    Syntax,
    /// A section that does not exist.
    UnknownSection,
    /// A key that does not exist.
    UnknownKey,
    /// A section or key that must be there is not.
    MissingKey,
    /// A value of another type than the key takes.
    WrongType,
    /// A value that cannot be read.
    BadValue,
    /// A value that can be read, and is too small or too large.
    OutOfRange,
    /// The same name, number or address twice.
    Duplicate,
    /// A name that nothing in the file has.
    UnknownName,
    /// Two values that cannot both hold.
    Conflict,
    /// A file that the configuration names cannot be read.
    NamedFile,
    /// A certificate, key or CA file without usable content.
    BadCertificate,
    /// The private key is not the certificate's.
    KeyMismatch,
    /// A certificate outside its dates.
    CertificateDate,
    /// A secret that cannot be had, or that others can read.
    Secret,
    /// Something that this version cannot do yet.
    NotAvailable,
    /// A value that has no effect.
    Unused,
    /// Something that this machine lacks or has given away already.
    Machine,
}

impl FaultCode {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FileUnreadable => "file-unreadable",
            Self::Syntax => "syntax",
            Self::UnknownSection => "unknown-section",
            Self::UnknownKey => "unknown-key",
            Self::MissingKey => "missing-key",
            Self::WrongType => "wrong-type",
            Self::BadValue => "bad-value",
            Self::OutOfRange => "out-of-range",
            Self::Duplicate => "duplicate",
            Self::UnknownName => "unknown-name",
            Self::Conflict => "conflict",
            Self::NamedFile => "named-file",
            Self::BadCertificate => "bad-certificate",
            Self::KeyMismatch => "key-mismatch",
            Self::CertificateDate => "certificate-date",
            Self::Secret => "secret",
            Self::NotAvailable => "not-available",
            Self::Unused => "unused",
            Self::Machine => "machine",
        }
    }
}

/// Where in the file something stands, and what it is called there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `outside.tls`, `extension.name`, …; a section's own name for the section as a whole.
    pub key: String,
    /// Its bytes in the file.
    pub span: Range<usize>,
}

/// What is wrong with a value, before its place is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The kind.
    pub code: FaultCode,
    /// What is wrong, in a sentence without an end.
    pub message: String,
    /// What stands there; never a secret.
    pub found: String,
    /// What to write instead.
    pub help: String,
}

impl Problem {
    /// A problem.
    pub fn new(
        code: FaultCode,
        message: impl Into<String>,
        found: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { code, message: message.into(), found: found.into(), help: help.into() }
    }
}

/// One finding in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// How grave.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What.
    pub problem: Problem,
}

/// Collects findings.
#[derive(Clone, Debug, Default)]
pub struct Faults(Vec<ConfigFault>);

impl Faults {
    /// Something that must be mended before a start.
    pub fn error(&mut self, place: &Place, problem: Problem) {
        self.0.push(ConfigFault { severity: Severity::Error, place: place.clone(), problem });
    }

    /// Something that the operator should know.
    pub fn warning(&mut self, place: &Place, problem: Problem) {
        self.0.push(ConfigFault { severity: Severity::Warning, place: place.clone(), problem });
    }

    /// Whether anything must be mended.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|fault| fault.severity == Severity::Error)
    }
}

/// All findings in one file, with what is needed to draw them.
#[derive(Clone, Debug)]
pub struct Report {
    path: PathBuf,
    masked_source: String,
    faults: Vec<ConfigFault>,
}

/// One finding as `check --json` writes it.
#[derive(Clone, Debug, Serialize)]
pub struct FaultView {
    /// How grave.
    pub severity: Severity,
    /// The kind.
    pub code: FaultCode,
    /// The file, as it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The key.
    pub key: String,
    /// What is wrong.
    pub text: String,
    /// What stands there.
    pub found: String,
    /// What to write.
    pub help: String,
}

impl Report {
    /// Puts the findings in the order of the file. `masked_source` is the file without its secrets.
    pub fn new(path: &Path, masked_source: String, faults: Faults) -> Self {
        let mut report = Self { path: path.to_owned(), masked_source, faults: Vec::new() };
        report.append(faults);
        report
    }

    /// Adds findings that came later.
    pub fn append(&mut self, faults: Faults) {
        self.faults.extend(faults.0);
        self.faults.sort_by(|a, b| {
            (a.place.span.start, a.severity, a.problem.code).cmp(&(
                b.place.span.start,
                b.severity,
                b.problem.code,
            ))
        });
        self.faults.dedup();
    }

    /// The findings, in the order of the file.
    pub fn faults(&self) -> &[ConfigFault] {
        &self.faults
    }

    /// What must be mended.
    pub fn errors(&self) -> usize {
        self.faults.iter().filter(|fault| fault.severity == Severity::Error).count()
    }

    /// What should be known.
    pub fn warnings(&self) -> usize {
        self.faults.len() - self.errors()
    }

    /// Line and column (in characters) of a byte, from 1.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let bytes = self.masked_source.as_bytes();
        let before = bytes.get(..offset.min(bytes.len())).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text = String::from_utf8_lossy(before.get(start..).unwrap_or_default());
        (line, text.chars().count() + 1)
    }

    /// Each warning in one line, `FILE:LINE: text`, and what to do about it.
    pub fn warnings_in_words(&self) -> Vec<(String, &str)> {
        let warnings = self.faults.iter().filter(|fault| fault.severity == Severity::Warning);
        let in_words =
            |fault: &ConfigFault| format!("{}: {}", self.locate(&fault.place), fault.problem.message);
        warnings.map(|fault| (in_words(fault), fault.problem.help.as_str())).collect()
    }

    /// `FILE:LINE`; the file alone for what does not stand in it.
    pub fn locate(&self, place: &Place) -> String {
        let path = self.path.display();
        if place.span.is_empty() {
            return path.to_string();
        }
        format!("{path}:{}", self.line_column(place.span.start).0)
    }

    /// Every fault that must be mended, drawn as `rustc` draws its own.
    pub fn draw_errors(&self) -> String {
        let renderer = Renderer::plain();
        let errors = self.faults.iter().filter(|fault| fault.severity == Severity::Error);
        let mut drawn = String::new();
        for fault in errors {
            drawn.push_str(&self.draw(fault, &renderer));
            drawn.push_str("\n\n");
        }
        drawn
    }

    fn draw(&self, fault: &ConfigFault, renderer: &Renderer) -> String {
        let problem = &fault.problem;
        let path = self.path.display().to_string();
        let title = Level::ERROR.primary_title(problem.message.as_str()).id(problem.code.as_str());
        let help = Level::HELP.message(problem.help.as_str());
        if self.masked_source.is_empty() {
            let origin = annotate_snippets::Origin::path(path);
            return renderer.render(&[title.element(origin).element(help)]);
        }
        let annotation = AnnotationKind::Primary.span(self.drawable(&fault.place.span));
        let snippet = Snippet::source(self.masked_source.as_str())
            .path(path)
            .annotation(annotation.label(problem.found.as_str()));
        renderer.render(&[title.element(snippet).element(help)])
    }

    /// The part of a span that lies in its first line and inside the source.
    fn drawable(&self, span: &Range<usize>) -> Range<usize> {
        let source = &self.masked_source;
        let start = (0..=span.start.min(source.len())).rev().find(|at| source.is_char_boundary(*at));
        let start = start.unwrap_or(0);
        let rest = source.get(start..).unwrap_or_default();
        let line = rest.lines().next().map_or(0, str::len);
        let end = span.end.clamp(start, start + line);
        let end = (end..=source.len()).find(|at| source.is_char_boundary(*at)).unwrap_or(start);
        start..end
    }

    /// What `check` ends with.
    pub fn summary(&self) -> String {
        let counted = |count: usize, word: &str| match count {
            0 => format!("no {word}s"),
            1 => format!("1 {word}"),
            _ => format!("{count} {word}s"),
        };
        let (errors, warnings) = (self.errors(), self.warnings());
        format!("{}: {}, {}", self.path.display(), counted(errors, "fault"), counted(warnings, "warning"))
    }

    /// Everything for a program.
    pub fn views(&self) -> Vec<FaultView> {
        self.faults.iter().map(|fault| self.view(fault)).collect()
    }

    fn view(&self, fault: &ConfigFault) -> FaultView {
        let (line, column) = self.line_column(fault.place.span.start);
        FaultView {
            severity: fault.severity,
            code: fault.problem.code,
            file: self.path.display().to_string(),
            line,
            column,
            key: fault.place.key.clone(),
            text: fault.problem.message.clone(),
            found: fault.problem.found.clone(),
            help: fault.problem.help.clone(),
        }
    }
}
