"""Commands of the scaler's own: they run its decision code, so the console names them and imports them when called."""
