mod answers;
mod bodies;
mod cases;
mod heads;
mod responses;
mod targets;
