"""TensorRT engines and what is known of the machines that they are for."""
