//! Audio by content: a tone sent at one end must be found at the other.
//!
//! WAV files of 16-bit mono at 8 kHz, and Goertzel's filter for the strength of one frequency.

use std::f64::consts::TAU;
use std::fs;
use std::path::Path;

/// Samples in a second.
pub const RATE: u32 = 8_000;

/// Writes a file with a sine of this frequency.
pub fn write_tone(path: &Path, hertz: u32, seconds: u32) {
    let samples: Vec<u8> = (0..RATE * seconds)
        .map(|at| f64::from(at) * TAU * f64::from(hertz) / f64::from(RATE))
        .flat_map(|angle| ((angle.sin() * 12_000.0) as i16).to_le_bytes())
        .collect();
    let length = u32::try_from(samples.len()).expect("a tone is short");
    let mut file = Vec::with_capacity(44 + samples.len());
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + length).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    for (value, width) in [(16, 4), (1, 2), (1, 2), (RATE, 4), (RATE * 2, 4), (2, 2), (16, 2)] {
        file.extend_from_slice(&u32::to_le_bytes(value)[..width]);
    }
    file.extend_from_slice(b"data");
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&samples);
    fs::write(path, file).expect("a tone can be written");
}

/// What a WAV file begins with, as long as its writer has left the room for it alone.
const NO_HEADER_YET: [u8; 44] = [0; 44];

/// The samples of a WAV file; of one still being written, those that are there.
pub fn read_wav(path: &Path) -> Vec<i16> {
    let bytes = fs::read(path).unwrap_or_default();
    let header = bytes.windows(4).position(|four| four == b"data").map(|at| at + 8);
    let unwritten = bytes.starts_with(&NO_HEADER_YET).then_some(NO_HEADER_YET.len());
    let Some(begin) = unwritten.or(header) else { return Vec::new() };
    let samples = bytes.get(begin..).unwrap_or_default();
    samples.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// How much of the power of these samples is in one frequency: 0 for none, about 1 for a pure tone of it.
pub fn share_of(samples: &[i16], hertz: u32) -> f64 {
    let power: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    if power < samples.len() as f64 * 100.0 {
        return 0.0; // silence: less than 10 of 32,768
    }
    let coefficient = 2.0 * (TAU * f64::from(hertz) / f64::from(RATE)).cos();
    let (mut before, mut last) = (0.0, 0.0);
    for sample in samples {
        (before, last) = (last, coefficient * last - before + f64::from(*sample));
    }
    let strength = last * last + before * before - coefficient * last * before;
    strength * 2.0 / (power * samples.len() as f64)
}

/// How many tenths of a second of these samples carry the tone.
pub fn tenths_with(samples: &[i16], hertz: u32) -> usize {
    samples.chunks_exact(RATE as usize / 10).filter(|tenth| share_of(tenth, hertz) > 0.5).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_tone_is_found_and_no_other() {
        let scratch = Scratch::new();
        let path = scratch.path().join("tone.wav");
        write_tone(&path, 440, 2);
        let samples = read_wav(&path);
        assert_eq!(samples.len(), 16_000);
        assert_eq!(tenths_with(&samples, 440), 20);
        assert_eq!(tenths_with(&samples, 1_000), 0);
        assert_eq!(tenths_with(&[0; 8_000], 440), 0);
        let mut file = fs::read(&path).expect("the file is there");
        file[..44].fill(0);
        fs::write(&path, file).expect("a file can be written");
        assert_eq!(read_wav(&path), samples, "its header is not written yet");
    }
}
