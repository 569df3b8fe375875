mod answers;
mod bodies;
mod cases;
mod heads;
mod properties;
mod responses;
mod targets;
