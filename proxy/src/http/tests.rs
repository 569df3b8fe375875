mod cases;
mod heads;
