"""After a restore of the database: bring back from Kafka what happened since the backup."""
